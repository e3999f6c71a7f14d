//! Sessions: rotation of refresh tokens by several processes at once, and what ends them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use harness::{
    control::{Admin, Answer, Control, PASSWORD, start_management},
    eventually,
    world::Options,
};
use serde_json::json;
use tokio::{sync::Notify, task::JoinSet};
use uuid::Uuid;

/// Awaits all calls at once.
async fn together<T: Send + 'static>(
    all: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    all.collect::<JoinSet<_>>().join_all().await
}

async fn sessions(control: &Control, whose: &Admin, which: &str) -> i64 {
    let of = format!("user_id = (SELECT id FROM users WHERE email = '{}') AND {which}", whose.email);
    control.world.database.count("sessions", &of).await
}

/// Makes what was used appear a minute older.
async fn a_minute_passes(control: &Control) {
    control.world.database.execute("UPDATE refresh_tokens SET used_at = used_at - interval '1 minute'").await;
}

/// Checks that the tokens are worth nothing at any process. A second is promised; each request asks for its session, so
/// that none passes once whatever ended it was answered.
async fn is_dead(control: &Control, whose: &Admin) {
    for process in 0..control.management.len() {
        let there = control.at(process, whose);
        let (me, refreshed) =
            (there.get("/v1/admin/me").await, there.refresh_with(&whose.refresh_token).await);
        assert_eq!((me.status, refreshed.status), (401, 401), "process {process}: {me:?} {refreshed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_refresh_at_once_one_wins_and_nothing_is_revoked() {
    const PARALLEL: usize = 64;
    const ROUNDS: usize = 200;
    let control = Control::with(2, Options::default()).await;
    let mut owner = control.owner.clone();
    let other = owner.colleague("admin").await;
    let mut elsewhere = owner.clone();
    elsewhere.log_in(PASSWORD).await.expect(200);
    let first = owner.refresh_token.clone();
    let processes = [control.at(0, &owner), control.at(1, &owner)];
    let (began, mut concurrent) = (Instant::now(), 0);
    for round in 0..ROUNDS {
        let token = owner.refresh_token.clone();
        let one = |number: usize| {
            let (caller, token) = (processes[number % 2].clone(), token.clone());
            async move { caller.refresh_with(&token).await }
        };
        let answers: Vec<Answer> = together((0..PARALLEL).map(one)).await;
        let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
        assert_eq!(won.len(), 1, "round {round}: {won:?}");
        // A machine that is too busy says so, instead of waiting without end.
        let (told, busy): (Vec<_>, Vec<_>) = lost.into_iter().partition(|answer| answer.status == 409);
        assert!(told.iter().all(|answer| answer.code() == "CONCURRENT_REFRESH"), "round {round}: {told:?}");
        assert!(busy.iter().all(|answer| answer.code() == "UNAVAILABLE"), "round {round}: {busy:?}");
        concurrent += told.len();
        owner.access_token = won[0].text("access_token");
        owner.refresh_token = won[0].text("refresh_token");
    }
    println!("{ROUNDS} rounds of {PARALLEL} in {:?}, {concurrent} told that they were", began.elapsed());
    assert!(concurrent * 2 >= ROUNDS * (PARALLEL - 1), "too busy to tell: {concurrent}");
    for process in 0..2 {
        control.at(process, &owner).get("/v1/admin/me").await.expect(200);
    }
    assert_eq!(sessions(&control, &owner, "revoked_at IS NOT NULL").await, 0);
    let follows = "revoked_at IS NULL AND expires_at = (SELECT max(expires_at) FROM refresh_tokens t \
        WHERE t.session_id = sessions.id)";
    assert_eq!(sessions(&control, &owner, follows).await, 2, "a session ends with its newest token");

    // The first one again, at the other process.
    control.at(1, &owner).refresh_with(&first).await.refused(401, "INVALID_REFRESH_TOKEN");
    is_dead(&control, &owner).await;
    is_dead(&control, &elsewhere).await;
    for process in 0..2 {
        control.at(process, &other).get("/v1/admin/me").await.expect(200);
    }
    let noted =
        "action = 'auth.refresh_reused' AND resource_id = (SELECT id::text FROM users WHERE email = '";
    let database = &control.world.database;
    assert_eq!(database.count("audit_log", &format!("{noted}{}')", owner.email)).await, 1);
    let metrics = [control.management[0].metrics().await, control.management[1].metrics().await];
    let counted = |outcome| -> f64 {
        metrics.iter().map(|one| one.sum("datafly_refreshes_total", &[("outcome", outcome)])).sum()
    };
    assert_eq!(
        (counted("rotated"), counted("concurrent"), counted("reused")),
        (ROUNDS as f64, concurrent as f64, 1.0)
    );
    owner.log_in(PASSWORD).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_token_is_told_from_one_that_is_used_twice_at_once() {
    let control = Control::with(2, Options::default()).await;
    let mut owner = control.owner.clone();
    // R1 → R2 → R3 within a second, then R1: it is told by its ID, not by its time.
    let r1 = owner.refresh_token.clone();
    owner.refresh().await.expect(200);
    owner.refresh().await.expect(200);
    owner.refresh_with(&r1).await.refused(401, "INVALID_REFRESH_TOKEN");
    is_dead(&control, &owner).await;

    // Used a moment ago, and what was got is unused: the same client, twice. Nothing ends.
    let r1 = eventually("the second within a second", async || {
        owner.log_in(PASSWORD).await.expect(200);
        let (r1, began) = (owner.refresh_token.clone(), Instant::now());
        owner.refresh().await.expect(200);
        let second = control.at(1, &owner).refresh_with(&r1).await;
        if second.status == 401 && began.elapsed() > Duration::from_millis(900) {
            return Err("this machine was too slow".to_owned());
        }
        second.refused(409, "CONCURRENT_REFRESH");
        Ok(r1)
    })
    .await;
    owner.get("/v1/admin/me").await.expect(200);
    // Later it is someone else.
    a_minute_passes(&control).await;
    control.at(1, &owner).refresh_with(&r1).await.refused(401, "INVALID_REFRESH_TOKEN");
    is_dead(&control, &owner).await;

    // An expired one is just that, used or not.
    owner.log_in(PASSWORD).await.expect(200);
    let r1 = owner.refresh_token.clone();
    owner.refresh().await.expect(200);
    a_minute_passes(&control).await;
    control
        .world
        .database
        .execute("UPDATE refresh_tokens SET expires_at = now() - interval '1 second'")
        .await;
    owner.refresh_with(&r1).await.refused(401, "INVALID_REFRESH_TOKEN");
    owner.refresh_with(&owner.refresh_token).await.refused(401, "INVALID_REFRESH_TOKEN");
    owner.get("/v1/admin/me").await.expect(200);

    // So is whatever is no refresh token of ours.
    let access = owner.access_token.clone();
    for token in [access.as_str(), "", "x.y.z", &"x".repeat(100_000), "\u{0}", "☃"] {
        owner.refresh_with(token).await.refused(401, "INVALID_REFRESH_TOKEN");
    }
    for body in [json!({}), json!({"refresh_token": null}), json!({"refresh_token": 1}), json!([])] {
        owner.post("/v1/admin/auth/refresh", &body).await.refused(422, "VALIDATION_FAILED");
    }
    owner.get("/v1/admin/me").await.expect(200);
}

/// Checks that `used`, a token of a session that has ended, ends nothing of what its user has begun since.
async fn an_old_token_ends_nothing_more(control: &Control, owner: &mut Admin, used: &str) {
    let reuses = async || control.world.database.count("audit_log", "action = 'auth.refresh_reused'").await;
    let before = reuses().await;
    owner.log_in(PASSWORD).await.expect(200);
    for process in [0, 1, 0, 1] {
        control.at(process, owner).refresh_with(used).await.refused(401, "INVALID_REFRESH_TOKEN");
        control.at(process, owner).get("/v1/admin/me").await.expect(200);
    }
    owner.refresh().await.expect(200);
    assert_eq!(reuses().await, before, "nothing ended, and nothing is on record");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_token_ends_sessions_no_longer_than_its_own_lasts() {
    let control = Control::with(2, Options::default()).await;
    let mut owner = control.owner.clone();
    // Its session ended with all others when it was used again.
    let used = owner.refresh_token.clone();
    owner.refresh().await.expect(200);
    a_minute_passes(&control).await;
    // However many come at once, one of them ends it all and is on record.
    let again = (0..8).map(|number| {
        let (caller, used) = (control.at(number % 2, &owner), used.clone());
        async move { caller.refresh_with(&used).await }
    });
    together(again).await.into_iter().for_each(|answer| answer.refused(401, "INVALID_REFRESH_TOKEN"));
    is_dead(&control, &owner).await;
    let database = &control.world.database;
    assert_eq!(database.count("audit_log", "action = 'auth.refresh_reused'").await, 1);
    an_old_token_ends_nothing_more(&control, &mut owner, &used).await;

    // Its session ended when its owner logged out.
    let used = owner.refresh_token.clone();
    owner.refresh().await.expect(200);
    owner.post("/v1/admin/auth/logout", &json!({})).await.expect(204);
    a_minute_passes(&control).await;
    an_old_token_ends_nothing_more(&control, &mut owner, &used).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_tokens_count_for_their_network_as_failed_logins_do() {
    let control = Control::with(2, Options::default()).await;
    let mut owner = control.owner.clone();
    let used = owner.refresh_token.clone();
    owner.refresh().await.expect(200);
    owner.post("/v1/admin/auth/logout", &json!({})).await.expect(204);
    for number in 0..100 {
        let answer = control.at(number % 2, &owner).refresh_with(&used).await;
        answer.refused(401, "INVALID_REFRESH_TOKEN");
    }
    for process in 0..2 {
        control.at(process, &owner).refresh_with(&used).await.refused(429, "RATE_LIMITED");
    }
    owner.log_in(PASSWORD).await.refused(429, "RATE_LIMITED");
    // Once the 15 minutes are over, all is as it was.
    control.world.database.execute("DELETE FROM login_failures").await;
    owner.log_in(PASSWORD).await.expect(200);
    owner.refresh().await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_logs_out_or_gets_another_password_has_no_token_left() {
    let control = Control::with(2, Options::default()).await;
    let owner = &control.owner;
    let mut user = owner.colleague("editor").await;
    let mut elsewhere = user.clone();
    elsewhere.log_in(PASSWORD).await.expect(200);
    control.at(1, &user).post("/v1/admin/auth/logout", &json!({})).await.expect(204);
    is_dead(&control, &user).await;
    control.at(1, &user).post("/v1/admin/auth/logout", &json!({})).await.refused(401, "INVALID_TOKEN");
    elsewhere.refresh().await.expect(200);

    user.log_in(PASSWORD).await.expect(200);
    let new = "granite-otter-51-telescope";
    let change = json!({"current_password": PASSWORD, "new_password": new});
    user.put("/v1/admin/me/password", &change).await.expect(204);
    is_dead(&control, &elsewhere).await;
    user.refresh().await.expect(200);
    user.log_in(PASSWORD).await.refused(401, "INVALID_CREDENTIALS");
    user.log_in(new).await.expect(200);

    let id = user.get("/v1/admin/me").await.text("id");
    let reset = json!({"password": "harbour-walnut-77-lighthouse"});
    owner.put(&format!("/v1/admin/users/{id}/password"), &reset).await.expect(200);
    is_dead(&control, &user).await;
    user.log_in("harbour-walnut-77-lighthouse").await.expect(200);
    owner.delete(&format!("/v1/admin/users/{id}")).await.expect(204);
    is_dead(&control, &user).await;
    assert_eq!(control.world.database.count("sessions", &format!("user_id = '{id}'")).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_refresh_outlives_what_ends_its_session() {
    const ROUNDS: u64 = 120;
    let control = Control::with(2, Options::default()).await;
    let mut user = control.owner.colleague("editor").await;
    let id: Uuid = user.get("/v1/admin/me").await.text("id").parse().unwrap();
    let path = format!("/v1/admin/users/{id}");
    let mut rotated = 0;
    for round in 0..ROUNDS {
        // Some begin when it is over: chance alone might let every one of them win.
        let over = Arc::new(Notify::new());
        let refreshing = {
            let caller = control.at(usize::try_from(round % 2).unwrap(), &user);
            let over = (round % 10 == 9).then(|| Arc::clone(&over));
            tokio::spawn(async move {
                if let Some(over) = over {
                    over.notified().await;
                }
                caller.refresh_with(&caller.refresh_token).await
            })
        };
        // At another moment of it each time.
        tokio::time::sleep(Duration::from_micros(round * 97 % 6000)).await;
        if round % 3 == 0 {
            let disabled = json!({"name": "x", "role": "editor", "disabled": true});
            control.at(1, &control.owner).put(&path, &disabled).await.expect(200);
        } else {
            control.at(1, &user).post("/v1/admin/auth/logout", &json!({})).await.expect(204);
        }
        over.notify_one();
        let answer = refreshing.await.unwrap();
        if answer.status == 200 {
            rotated += 1;
            user.access_token = answer.text("access_token");
            user.refresh_token = answer.text("refresh_token");
        } else {
            answer.refused(401, "INVALID_REFRESH_TOKEN");
        }
        is_dead(&control, &user).await;
        // Back to life, for the next round, and with no failure on its account.
        control.world.database.execute("DELETE FROM login_failures").await;
        control.world.database.execute("UPDATE sessions SET revoked_at = NULL").await;
        control.world.database.execute("UPDATE users SET disabled_at = NULL").await;
        user.get("/v1/admin/me").await.expect(200);
    }
    assert!(rotated > 0 && rotated < ROUNDS, "every round went the same way: {rotated} of {ROUNDS}");
    assert_eq!(control.world.database.count("audit_log", "action = 'auth.refresh_reused'").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_can_be_removed_in_the_middle_of_a_refresh() {
    let control = Control::with(2, Options::default()).await;
    for round in 0..12 {
        let mut user = control.owner.colleague("editor").await;
        let path = format!("/v1/admin/users/{}", user.get("/v1/admin/me").await.text("id"));
        let refreshing = tokio::spawn(async move {
            let last = loop {
                let answer = user.refresh().await;
                if answer.status != 200 {
                    break answer;
                }
            };
            (user, last)
        });
        tokio::time::sleep(Duration::from_micros(round * 931)).await;
        control.at(1, &control.owner).delete(&path).await.expect(204);
        let (user, last) = refreshing.await.unwrap();
        last.refused(401, "INVALID_REFRESH_TOKEN");
        is_dead(&control, &user).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_rotated_while_everyone_stays_logged_in() {
    let control = Control::start().await;
    let old = control.jwt_secret.clone();
    let new = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    // Half of the way: one process signs with the new secret, the other still with the old one.
    let first = start_management(&control.world, &old, &[("JWT_SECRET_PREVIOUS", &new)]).await.unwrap();
    let second = start_management(&control.world, &new, &[("JWT_SECRET_PREVIOUS", &old)]).await.unwrap();
    let done = start_management(&control.world, &new, &[]).await.unwrap();
    let mut of_old = control.owner.at(&first);
    of_old.log_in(PASSWORD).await.expect(200);
    let mut of_new = control.owner.at(&second);
    of_new.log_in(PASSWORD).await.expect(200);
    for who in [&of_old, &of_new] {
        for service in [&first, &second] {
            who.at(service).get("/v1/admin/me").await.expect(200);
        }
    }
    of_new.at(&done).get("/v1/admin/me").await.expect(200);
    of_old.at(&done).get("/v1/admin/me").await.refused(401, "INVALID_TOKEN");
    of_old.at(&done).refresh().await.refused(401, "INVALID_REFRESH_TOKEN");
    // What the old secret signed is exchanged for what the new one signs.
    let mut exchanged = of_old.at(&second);
    exchanged.refresh().await.expect(200);
    exchanged.at(&done).refresh().await.expect(200);
}

//! Logging in: how often one may guess, what a guess costs, and what it tells.

use std::time::{Duration, Instant};

use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version};
use harness::{
    control::{Admin, Answer, Control, PASSWORD},
    eventually,
    visits::granted,
};
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;

const LOGIN: &str = "/v1/admin/auth/login";
const WRONG: &str = "not-the-password-at-all";

/// Logs in through a proxy, from that address.
async fn from(address: &str, who: &Admin, email: &str, password: &str) -> Answer {
    let body = json!({"email": email, "password": password});
    who.with_token("").call(Method::POST, LOGIN, Some(&body), &[("x-forwarded-for", address)]).await
}

/// Tries several logins at once with a wrong password, each from its own address.
async fn at_once(who: &Admin, email: &str, addresses: impl Iterator<Item = String>) -> Vec<Answer> {
    let mut all = JoinSet::new();
    for address in addresses {
        let (who, email) = (who.clone(), email.to_owned());
        all.spawn(async move { from(&address, &who, &email, WRONG).await });
    }
    all.join_all().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guesser_is_slowed_and_the_owner_comes_in_elsewhere() {
    let control = Control::start().await;
    let owner = &control.owner;
    for (email, network) in [(owner.email.as_str(), "192.0.2"), ("nobody@shop.example", "198.51.100")] {
        for guess in 0..10 {
            let refused = from(&format!("{network}.{guess}"), owner, email, WRONG).await;
            refused.refused(401, "INVALID_CREDENTIALS");
        }
        for password in [WRONG, PASSWORD] {
            let refused = from(&format!("{network}.77"), owner, &email.to_uppercase(), password).await;
            refused.refused(429, "RATE_LIMITED");
            assert!(refused.retry_after.is_some_and(|seconds| (800..=900).contains(&seconds)), "{refused:?}");
        }
    }
    // Another account from there, and this one from elsewhere.
    let colleague = owner.colleague("viewer").await;
    from("192.0.2.1", owner, &colleague.email, PASSWORD).await.expect(200);
    from("2001:db8::1", owner, &owner.email, PASSWORD).await.expect(200);

    // A thousand more change nothing for the owner.
    let storm = at_once(owner, &owner.email, (0..1000).map(|one| format!("192.0.2.{}", one % 256))).await;
    assert!(storm.iter().all(|answer| answer.status == 429 || answer.code() == "UNAVAILABLE"), "{storm:?}");
    // What else a client or its proxy writes makes no other network of it.
    for same in
        ["\u{fc}, 192.0.2.1", "192.0.2.1:4711", "[::ffff:192.0.2.1]:4711", "198.51.100.1, 192.0.2.1, "]
    {
        from(same, owner, &owner.email, PASSWORD).await.refused(429, "RATE_LIMITED");
    }
    from("203.0.113.9", owner, &owner.email, PASSWORD).await.expect(200);
    let counted = "SELECT max(times)::text FROM login_failures";
    assert_eq!(control.world.database.text(counted).await, "10", "what was refused is not counted");

    // It is over after 15 minutes.
    let passes = "UPDATE login_failures SET since = since - interval '15 minutes'";
    control.world.database.execute(passes).await;
    from("192.0.2.1", owner, &owner.email, PASSWORD).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_at_once_are_no_better_than_one_by_one_and_a_success_forgets() {
    let control = Control::start().await;
    let owner = &control.owner;
    let answers = at_once(owner, &owner.email, (0..40).map(|_| "192.0.2.1".to_owned())).await;
    let tried = answers.iter().filter(|answer| answer.status == 401).count();
    let busy = answers.iter().filter(|answer| answer.status == 503).count();
    assert!(tried <= 10 && tried + busy >= 10, "{tried} were tried: {answers:?}");

    for round in 0..3 {
        for _ in 0..4 {
            from("198.51.100.1", owner, &owner.email, WRONG).await.refused(401, "INVALID_CREDENTIALS");
        }
        let answer = from("198.51.100.1", owner, &owner.email, PASSWORD).await;
        assert_eq!(answer.status, 200, "round {round}: {answer:?}");
    }
    // The current password is not to be guessed either, with a token of theirs that was stolen.
    let mut me = owner.clone();
    me.log_in(PASSWORD).await.expect(200);
    let guess = json!({"current_password": WRONG, "new_password": "granite-otter-51-telescope"});
    for _ in 0..10 {
        me.put("/v1/admin/me/password", &guess).await.refused(401, "INVALID_CREDENTIALS");
    }
    me.put("/v1/admin/me/password", &guess).await.refused(429, "RATE_LIMITED");

    // A network has a hundred failures, whoever is guessed at.
    for guess in 0..4 {
        let email = format!("someone-{}@shop.example", guess / 2);
        from("203.0.113.1", owner, &email, WRONG).await.refused(401, "INVALID_CREDENTIALS");
    }
    let most = "UPDATE login_failures SET times = 99 WHERE times = 4";
    control.world.database.execute(most).await;
    from("203.0.113.2", owner, "one@shop.example", WRONG).await.refused(401, "INVALID_CREDENTIALS");
    from("203.0.113.3", owner, "two@shop.example", WRONG).await.refused(429, "RATE_LIMITED");
    from("203.0.113.4", owner, &owner.email, PASSWORD).await.refused(429, "RATE_LIMITED");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_learns_who_exists() {
    const SAMPLES: usize = 15;
    let control = Control::start().await;
    let owner = &control.owner;
    let disabled = owner.colleague("viewer").await;
    let id = disabled.get("/v1/admin/me").await.text("id");
    let change = json!({"name": "x", "role": "viewer", "disabled": true});
    owner.put(&format!("/v1/admin/users/{id}"), &change).await.expect(200);
    let kinds = [
        ("wrong", owner.email.as_str(), WRONG),
        ("unknown", "nobody@shop.example", WRONG),
        ("disabled", disabled.email.as_str(), PASSWORD),
    ];
    let (mut times, mut work) = ([const { Vec::new() }; 3], [Duration::ZERO; 3]);
    let mut bodies = Vec::new();
    for sample in 0..SAMPLES {
        for (kind, (_, email, password)) in kinds.iter().enumerate() {
            let (before, began) = (control.management[0].cpu().unwrap_or_default(), Instant::now());
            let answer = from(&format!("10.{sample}.{kind}.1"), owner, email, password).await;
            times[kind].push(began.elapsed());
            work[kind] += control.management[0].cpu().unwrap_or_default().saturating_sub(before);
            answer.refused(401, "INVALID_CREDENTIALS");
            bodies.push(answer.json);
        }
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
    let medians = times.map(|mut times| {
        times.sort();
        times[SAMPLES / 2].as_secs_f64()
    });
    let (least, most) =
        medians.iter().fold((f64::MAX, 0_f64), |(least, most), one| (least.min(*one), most.max(*one)));
    // Without the hash it takes a tenth of the time.
    assert!(most / least < 2.5, "{kinds:?} take {medians:?}");
    // One hash each, and as little beside it: what the processor does is told more exactly than what time
    // passes.
    let (least, most) = (work.iter().min().unwrap(), work.iter().max().unwrap());
    assert!(most.as_secs_f64() <= least.as_secs_f64() * 1.3, "{kinds:?} cost {work:?}");

    let on_record =
        |action: &str| format!("action = '{action}' AND resource_id IN (SELECT id::text FROM users)");
    eventually("every failure of someone who exists to be on record", async || {
        match control.world.database.count("audit_log", &on_record("auth.login_failed")).await {
            failed if failed == 2 * SAMPLES as i64 => Ok(()),
            failed => Err(format!("{failed}")),
        }
    })
    .await;
    assert_eq!(control.world.database.count("audit_log", "action = 'auth.login_failed'").await, 30);
    assert_eq!(control.world.database.count("audit_log", &on_record("auth.login")).await, 2);
    let typed = format!("(audit_log::text LIKE '%{WRONG}%' OR audit_log::text LIKE '%nobody@%')");
    assert_eq!(control.world.database.count("audit_log", &typed).await, 0, "what was typed is on record");
    let metrics = control.management[0].metrics().await;
    assert_eq!(metrics.sum("datafly_logins_total", &[("outcome", "wrong")]), 45.0);
    assert_eq!(metrics.sum("datafly_logins_total", &[("outcome", "ok")]), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_logins_at_once_take_bounded_memory_and_leave_the_rest_alone() {
    let control = Control::start().await;
    let owner = control.owner.clone();
    let before = control.management[0].memory();
    let storm = {
        let owner = owner.clone();
        let networks = (0..200).map(|network| format!("10.0.{network}.1"));
        tokio::spawn(async move { at_once(&owner, "nobody@shop.example", networks).await })
    };
    let (mut slowest, mut most, mut batches, mut accepted) = (Duration::ZERO, 0, 0, 0);
    let mut browser = control.world.browser();
    while !storm.is_finished() {
        let began = Instant::now();
        assert_eq!(owner.get("/healthz").await.status, 200);
        slowest = slowest.max(began.elapsed());
        // Visitors are other processes' work, which goes on while passwords are hashed on threads of their
        // own.
        accepted += usize::from(browser.view(&granted()).await.json()["accepted"] == json!(1));
        most = most.max(control.management[0].memory().unwrap_or_default());
        batches += 1;
    }
    // One may meet a moment when the machine does nothing else.
    assert!(
        batches > 2 && (accepted + 1) * 10 >= batches * 9,
        "{accepted} of {batches} batches were accepted"
    );
    let answers = storm.await.unwrap();
    let (tried, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 401);
    assert!(tried.len() >= 2 && !refused.is_empty(), "{} were tried", tried.len());
    for answer in &refused {
        assert!(answer.status == 503 && answer.retry_after.is_some(), "{answer:?}");
        assert!(["OVERLOADED", "UNAVAILABLE"].contains(&answer.code()), "{answer:?}");
    }
    assert!(slowest < Duration::from_secs(3), "health took {slowest:?}");
    if let Some(before) = before {
        let grown = most.saturating_sub(before) / (1024 * 1024);
        // 19 MiB for each of at most 8, and 200 connections.
        assert!(grown < 8 * 19 + 64, "it took {grown} MiB more");
    }
    let counted = control.world.database.count("login_failures", "times > 0").await;
    assert!(counted <= 2 * tried.len() as i64 + 20, "{counted} for {} that were tried", tried.len());
    // On a slow machine the database may have refused all of these before the hashing could; another storm
    // must do.
    let mut shed = refused;
    eventually("some to be too many", async || {
        if shed.iter().any(|answer| answer.code() == "OVERLOADED") {
            return Ok(());
        }
        let networks = (0..200).map(|network| format!("10.0.{network}.1"));
        shed = at_once(&owner, "nobody@shop.example", networks).await;
        Err("none was".to_owned())
    })
    .await;
    owner.clone().log_in(PASSWORD).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_hash_is_renewed_when_it_is_weak_and_not_computed_when_it_is_hostile() {
    let control = Control::start().await;
    let mut owner = control.owner.clone();
    let database = &control.world.database;
    let weak = Params::new(8 * 1024, 1, 1, None).unwrap();
    let weak = Argon2::new(Algorithm::Argon2id, Version::V0x13, weak);
    let weak = weak.hash_password(PASSWORD.as_bytes()).unwrap();
    let store = async |hash: &str| {
        database
            .execute(&format!("UPDATE users SET password_hash = '{hash}' WHERE email = '{}'", owner.email))
            .await;
    };
    store(&weak.to_string()).await;
    let renewed = "password_hash LIKE '$argon2id$v=19$m=19456,t=2,p=1$%'";
    let before = database.count("users", renewed).await;
    from("192.0.2.1", &owner, &owner.email, WRONG).await.refused(401, "INVALID_CREDENTIALS");
    assert_eq!(database.count("users", renewed).await, before, "whoever does not know it changes nothing");
    for _ in 0..2 {
        from("192.0.2.1", &owner, &owner.email, PASSWORD).await.expect(200);
        assert_eq!(database.count("users", renewed).await, before + 1);
    }

    store("$argon2id$v=19$m=4194304,t=1000,p=1$c2lnbmFsLWlkZW50aXR5$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").await;
    let began = Instant::now();
    owner.log_in(PASSWORD).await.refused(401, "INVALID_CREDENTIALS");
    assert!(began.elapsed() < Duration::from_secs(3), "it was computed, in {:?}", began.elapsed());
    eventually("an alert", async || {
        let alerts = control.management[0].log();
        let alerted = |line: &String| line.contains("\"ERROR\"") && line.contains("password hash");
        if alerts.iter().any(alerted) { Ok(()) } else { Err(format!("{alerts:?}")) }
    })
    .await;
    let log = control.management[0].log();
    assert!(!log.iter().any(|line| line.contains(PASSWORD) || line.contains("argon2id")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_taken_as_it_is() {
    let control = Control::start().await;
    let owner = &control.owner;
    let words = "tugboat lantern 38 orchard granite otter telescope harbour walnut 77 lighthouse ";
    let (long, longest): (String, String) =
        (words.chars().cycle().take(64).collect(), words.chars().cycle().take(128).collect());
    for password in [long.as_str(), &longest, "  cinder maple 🍪🦉 Größe  ", "𝒸𝒾𝓃𝒹𝑒𝓇 maple 94"]
    {
        let email = format!("{}@shop.example", uuid::Uuid::new_v4().simple());
        let user = json!({"email": email, "name": "", "role": "viewer", "password": password});
        owner.post("/v1/admin/users", &user).await.expect(201);
        let trimmed = password.trim();
        let cut: String = password.chars().take(password.chars().count() - 1).collect();
        let folded = password.to_uppercase();
        for other in [trimmed, &cut, &folded].into_iter().filter(|other| *other != password) {
            from("192.0.2.1", owner, &email, other).await.refused(401, "INVALID_CREDENTIALS");
        }
        from("192.0.2.1", owner, &email, password).await.expect(200);
    }

    // What is no password costs nothing and says so.
    let failures = control.world.database.count("login_failures", "true").await;
    // Whoever is refused in the midst of sending is told, not cut off.
    let long = json!({"email": owner.email, "password": "a".repeat(900 * 1024)});
    for _ in 0..20 {
        owner.anyone().post(LOGIN, &long).await.refused(413, "PAYLOAD_TOO_LARGE");
        owner.with_token("x").put("/v1/admin/me/password", &long).await.refused(401, "INVALID_TOKEN");
    }
    for (email, password, field) in [
        (owner.email.as_str(), "a".repeat(129), "password"),
        (&owner.email, "🍪".repeat(50_000), "password"),
        ("ada\u{0}@shop.example", PASSWORD.to_owned(), "email"),
        (&"a".repeat(255), PASSWORD.to_owned(), "email"),
    ] {
        let refused = from("198.51.100.1", owner, email, &password).await;
        refused.refused(422, "VALIDATION_FAILED");
        assert_eq!(refused.fields(), [field]);
    }
    assert_eq!(control.world.database.count("login_failures", "true").await, failures);
    // Whatever its case, and with the spaces that a form leaves; a look-alike is someone else.
    from("192.0.2.1", owner, &format!(" {} ", owner.email.to_uppercase()), PASSWORD).await.expect(200);
    let lookalike = owner.email.replace('o', "о");
    from("192.0.2.1", owner, &lookalike, PASSWORD).await.refused(401, "INVALID_CREDENTIALS");
    // No cookie counts, and no page of another site may read an answer.
    let headers = [("origin", "https://evil.example"), ("cookie", "access_token=x")];
    let answer = owner.with_token("").call(Method::GET, "/v1/admin/me", None, &headers).await;
    answer.refused(401, "INVALID_TOKEN");
}

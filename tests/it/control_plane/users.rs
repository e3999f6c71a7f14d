//! Users of the API, and who may change whom.

use harness::control::{Admin, Control, PASSWORD};
use reqwest::Method;
use serde_json::{Value, json};

const USERS: &str = "/v1/admin/users";

fn user(email: &str, role: &str) -> Value {
    json!({"email": email, "name": "Ada", "role": role, "password": PASSWORD})
}

async fn id_of(admin: &Admin) -> String {
    admin.get("/v1/admin/me").await.text("id")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_made_changed_and_removed_and_all_of_it_is_on_record() {
    let control = Control::start().await;
    let owner = &control.owner;
    let made = owner.post(USERS, &user("Ada@Shop.example", "viewer")).await;
    assert_eq!((made.status, made.version.as_deref()), (201, Some("1")), "{made:?}");
    assert_eq!((&made.json["email"], &made.json["disabled"]), (&json!("Ada@Shop.example"), &json!(false)));
    let path = format!("{USERS}/{}", made.text("id"));
    assert_eq!(owner.get(&path).await.expect(200), made.json);
    assert!(!made.json.to_string().contains("argon2"));

    let mut ada = owner.clone();
    ada.email = "ADA@SHOP.EXAMPLE".to_owned();
    ada.log_in(PASSWORD).await.expect(200);
    let me = ada.get("/v1/admin/me").await.expect(200);
    assert_eq!(
        (&me["name"], &me["org_name"], &me["role"]),
        (&json!("Ada"), &json!("Test Shop"), &json!("viewer"))
    );
    let permissions = me["permissions"].as_array().unwrap();
    assert!(permissions.contains(&json!("settings:read")) && !permissions.contains(&json!("users:read")));
    assert!(!owner.get(&path).await.expect(200)["last_login_at"].is_null());

    // The new role counts at once, with the token that was issued before.
    ada.get(USERS).await.refused(403, "FORBIDDEN");
    let changed = json!({"name": "Ada King", "role": "admin"});
    let stale = owner.call(Method::PUT, &path, Some(&changed), &[("if-match", "\"7\"")]).await;
    stale.refused(409, "VERSION_CONFLICT");
    let updated = owner.call(Method::PUT, &path, Some(&changed), &[("if-match", "\"1\"")]).await;
    assert_eq!((updated.status, updated.version.as_deref()), (200, Some("2")), "{updated:?}");
    let listed = ada.get(USERS).await.expect(200);
    let emails: Vec<_> = listed["data"].as_array().unwrap().iter().map(|user| &user["email"]).collect();
    assert_eq!(emails, [&json!(owner.email), &json!("Ada@Shop.example")]);
    let page = ada.get(&format!("{USERS}?limit=1")).await.expect(200);
    let next = page["next_cursor"].as_str().unwrap();
    let page = ada.get(&format!("{USERS}?limit=1&cursor={next}")).await.expect(200);
    assert_eq!((&page["data"][0]["email"], &page["has_more"]), (&json!("Ada@Shop.example"), &json!(false)));

    let disabled = json!({"name": "Ada King", "role": "admin", "disabled": true});
    owner.put(&path, &disabled).await.expect(200);
    ada.get("/v1/admin/me").await.refused(401, "INVALID_TOKEN");
    ada.log_in(PASSWORD).await.refused(401, "INVALID_CREDENTIALS");
    owner.put(&path, &json!({"role": "admin", "disabled": false})).await.expect(200);
    ada.get("/v1/admin/me").await.refused(401, "INVALID_TOKEN");
    ada.log_in(PASSWORD).await.expect(200);

    for _ in 0..2 {
        owner.delete(&path).await.expect(204);
    }
    owner.get(&path).await.refused(404, "NOT_FOUND");
    owner.put(&path, &changed).await.refused(404, "NOT_FOUND");
    ada.get("/v1/admin/me").await.refused(401, "INVALID_TOKEN");
    let actions = "SELECT string_agg(action || ' ' || coalesce(changes->'role'->>'new', '-'), ', ' ORDER BY id) \
        FROM audit_log WHERE action LIKE 'user.%'";
    assert_eq!(
        control.world.database.text(actions).await,
        "user.created viewer, user.updated admin, user.updated -, user.updated -, user.deleted -"
    );
    assert_eq!(control.world.database.count("audit_log", "changes::text LIKE '%argon2%'").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_user_is_told_field_by_field() {
    let control = Control::start().await;
    let owner = &control.owner;
    for (change, fields) in [
        (json!({"email": "ada", "name": "a\nb"}), vec!["email", "name"]),
        (json!({"email": "a\u{0}@shop.example"}), vec!["email"]),
        (json!({"email": format!("a@{}", "b".repeat(253))}), vec!["email"]),
        // Of these two accounts one reader can't tell, and which is which would be up to the database's
        // locale.
        (json!({"email": "ada\u{200b}@shop.example"}), vec!["email"]),
        (json!({"email": "Été@shop.example"}), vec!["email"]),
        (json!({"name": "\u{202e}ada"}), vec!["name"]),
        (json!({"role": "root"}), vec!["role"]),
        (json!({"role": "Owner"}), vec!["role"]),
        (json!({"org_id": "x"}), vec!["org_id"]),
        (json!({"id": "x"}), vec!["id"]),
        (json!({"password": "short"}), vec!["password"]),
        (json!({"password": "a".repeat(129)}), vec!["password"]),
        (json!({"password": "password1234"}), vec!["password"]),
        (json!({"password": "ada@shop.example"}), vec!["password"]),
        (json!({"password": "Test ShopAda"}), vec!["password"]),
    ] {
        let mut body = user("ada@shop.example", "viewer");
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let answer = owner.post(USERS, &body).await;
        assert_eq!(answer.status, 422, "{body}: {answer:?}");
        assert_eq!(answer.fields(), fields, "{body}");
    }
    let colleague = owner.colleague("viewer").await;
    let path = format!("{USERS}/{}/password", id_of(&colleague).await);
    let answer = owner.put(&path, &json!({"password": colleague.email})).await;
    assert_eq!((answer.status, answer.fields()), (422, vec!["password".to_owned()]), "{answer:?}");
    let change = json!({"current_password": PASSWORD, "new_password": "qwertyuiop123"});
    let answer = colleague.put("/v1/admin/me/password", &change).await;
    assert_eq!((answer.status, answer.fields()), (422, vec!["new_password".to_owned()]), "{answer:?}");
    let change = json!({"current_password": "not-it-but-long-enough", "new_password": PASSWORD});
    colleague.put("/v1/admin/me/password", &change).await.refused(401, "INVALID_CREDENTIALS");

    // What is too long for a password is refused before it costs a hash.
    let change = json!({"current_password": "a".repeat(200_000), "new_password": PASSWORD});
    let answer = colleague.put("/v1/admin/me/password", &change).await;
    assert_eq!((answer.status, answer.fields()), (422, vec!["current_password".to_owned()]), "{answer:?}");
    // A list of values is no object, though they are in the order of its fields.
    for (path, body) in [
        ("/v1/admin/auth/login", json!([owner.email, PASSWORD])),
        ("/v1/admin/sources", json!(["Shop", [], [], "verified", false])),
    ] {
        owner.post(path, &body).await.refused(422, "VALIDATION_FAILED");
    }

    // An address is someone's, whatever its case, and nothing says that it is somebody's elsewhere.
    let foreign = control.another_owner().await;
    for email in [owner.email.clone(), owner.email.to_uppercase()] {
        owner.post(USERS, &user(&email, "viewer")).await.refused(409, "ALREADY_EXISTS");
    }
    foreign.post(USERS, &user(&owner.email.to_uppercase(), "viewer")).await.expect(201);
    foreign.post(USERS, &user(&owner.email, "viewer")).await.refused(409, "ALREADY_EXISTS");
    let path = format!("{USERS}/{}", id_of(owner).await);
    foreign.get(&path).await.refused(404, "NOT_FOUND");
    foreign.put(&path, &json!({"name": "x", "role": "viewer"})).await.refused(404, "NOT_FOUND");
    foreign.put(&format!("{path}/password"), &json!({"password": PASSWORD})).await.refused(404, "NOT_FOUND");
    foreign.delete(&path).await.refused(404, "NOT_FOUND");
    owner.get("/v1/admin/me").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_is_for_owners_alone_and_one_stays() {
    let control = Control::start().await;
    let owner = &control.owner;
    let (admin, editor) = (owner.colleague("admin").await, owner.colleague("editor").await);
    let own = format!("{USERS}/{}", id_of(owner).await);
    let of_editor = format!("{USERS}/{}", id_of(&editor).await);
    let as_role = |role: &str| json!({"name": "x", "role": role, "disabled": false});
    admin.post(USERS, &user("new@shop.example", "owner")).await.refused(403, "FORBIDDEN");
    admin.put(&own, &as_role("owner")).await.refused(403, "FORBIDDEN");
    admin.put(&own, &as_role("viewer")).await.refused(403, "FORBIDDEN");
    admin.put(&of_editor, &as_role("owner")).await.refused(403, "FORBIDDEN");
    admin.put(&format!("{own}/password"), &json!({"password": PASSWORD})).await.refused(403, "FORBIDDEN");
    admin.delete(&own).await.refused(403, "FORBIDDEN");
    admin.put(&of_editor, &as_role("viewer")).await.expect(200);
    editor.get(USERS).await.refused(403, "FORBIDDEN");
    editor.post(USERS, &user("new@shop.example", "viewer")).await.refused(403, "FORBIDDEN");
    // With a stolen token alone nobody gets a password of their choice.
    owner.put(&format!("{own}/password"), &json!({"password": PASSWORD})).await.refused(403, "FORBIDDEN");

    owner.put(&own, &as_role("admin")).await.refused(409, "LAST_OWNER");
    owner
        .put(&own, &json!({"name": "x", "role": "owner", "disabled": true}))
        .await
        .refused(409, "LAST_OWNER");
    owner.delete(&own).await.refused(409, "LAST_OWNER");
    // One who can't log in is no owner to rely on.
    owner.put(&of_editor, &json!({"name": "x", "role": "owner", "disabled": true})).await.expect(200);
    owner.delete(&own).await.refused(409, "LAST_OWNER");
    owner.put(&of_editor, &as_role("owner")).await.expect(200);
    owner.delete(&own).await.expect(204);
    assert_eq!(control.world.database.count("users", "role = 'owner' AND disabled_at IS NULL").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_owners_cannot_remove_each_other_at_the_same_moment() {
    let control = Control::start().await;
    let owner = control.owner.clone();
    let other = owner.colleague("owner").await;
    let (first, second) = (id_of(&owner).await, id_of(&other).await);
    for round in 0..40 {
        let demoted = json!({"name": "x", "role": "admin"});
        let disabled = json!({"name": "x", "role": "owner", "disabled": true});
        let body = if round % 2 == 0 { demoted } else { disabled };
        let (own, others) = (format!("{USERS}/{second}"), format!("{USERS}/{first}"));
        let (one, two) = tokio::join!(owner.put(&own, &body), other.put(&others, &body));
        let mut statuses = [one.status, two.status];
        statuses.sort_unstable();
        assert!(statuses[0] == 200 && statuses[1] >= 400, "{one:?} {two:?}");
        let left = format!("role = 'owner' AND disabled_at IS NULL AND id IN ('{first}', '{second}')");
        assert_eq!(control.world.database.count("users", &left).await, 1, "round {round}");
        let both = format!(
            "UPDATE users SET role = 'owner', disabled_at = NULL WHERE id IN ('{first}', '{second}')"
        );
        control.world.database.execute(&both).await;
        control.world.database.execute("UPDATE sessions SET revoked_at = NULL").await;
    }
}

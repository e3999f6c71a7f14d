//! Tokens of an independent library, PyJWT: what it forges is refused, and it accepts what we issue, which
//! has the claims of the specification.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use harness::{
    control::{Admin, Control},
    eventually, system,
};
use serde_json::{Value, json};
use uuid::Uuid;

/// Reads `[{claims, headers, algorithm, secret}]`, prints the tokens. `RS256` and the like are signed with
/// the secret, as a verifier computes them that takes it for a key of theirs.
const SIGN: &str = r"
import json, sys, jwt
from jwt.algorithms import HMACAlgorithm
tokens = []
for order in json.load(sys.stdin):
    signer = jwt.PyJWS()
    if order['algorithm'].startswith(('RS', 'ES')):
        if order['algorithm'] in signer.get_algorithms():
            signer.unregister_algorithm(order['algorithm'])
        signer.register_algorithm(order['algorithm'], HMACAlgorithm(HMACAlgorithm.SHA256))
    claims = json.dumps(order['claims'], separators=(',', ':')).encode()
    key = None if order['algorithm'] == 'none' else order['secret']
    tokens.append(signer.encode(claims, key, order['algorithm'], order['headers']))
json.dump(tokens, sys.stdout)
";

/// Reads `{secret, tokens}`, prints headers and claims of those that are good.
const CHECK: &str = r"
import json, sys, jwt
given = json.load(sys.stdin)
json.dump([[jwt.get_unverified_header(token), jwt.decode(token, given['secret'], algorithms=['HS256'])]
    for token in given['tokens']], sys.stdout)
";

fn python(script: &str, input: &Value) -> Value {
    let mut child = Command::new(system::tool("python").unwrap())
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "PyJWT failed");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A token that is to be forged.
struct Forged {
    what: String,
    claims: Value,
    headers: Value,
    algorithm: &'static str,
    secret: String,
}

impl Forged {
    fn sign(all: &[Self]) -> Vec<String> {
        let order = |one: &Self| json!({"claims": one.claims, "headers": one.headers, "algorithm": one.algorithm, "secret": one.secret});
        let tokens = python(SIGN, &all.iter().map(order).collect());
        serde_json::from_value(tokens).unwrap()
    }
}

/// Headers and claims of tokens, all of which must be good.
fn opened(control: &Control, tokens: &[&str]) -> Vec<(Value, Value)> {
    let opened = python(CHECK, &json!({"secret": control.jwt_secret, "tokens": tokens}));
    serde_json::from_value(opened).unwrap()
}

fn names(object: &Value) -> Vec<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

async fn me(control: &Control, token: &str) -> harness::control::Answer {
    control.owner.with_token(token).get("/v1/admin/me").await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_we_issue_is_good_elsewhere_and_has_the_claims_of_the_specification() {
    let control = Control::start().await;
    let owner = &control.owner;
    let id = owner.get("/v1/admin/me").await.text("id");
    let opened = opened(&control, &[&owner.access_token, &owner.refresh_token]);
    let [(access_header, access), (refresh_header, refresh)] = &opened[..] else { panic!("{opened:?}") };
    for header in [access_header, refresh_header] {
        assert_eq!((names(header), &header["alg"]), (vec!["alg", "kid", "typ"], &json!("HS256")));
        assert_eq!(header["kid"].as_str().unwrap().len(), 8);
    }
    assert_eq!(names(access), ["exp", "iat", "org_id", "role", "sid", "sub"]);
    assert_eq!(names(refresh), ["exp", "iat", "jti", "org_id", "sub", "type"]);
    for claims in [access, refresh] {
        assert_eq!((&claims["sub"], &claims["org_id"]), (&json!(id), &json!(owner.org_id)));
        let age = system::now().unix_timestamp() - claims["iat"].as_i64().unwrap();
        assert!((0..30).contains(&age), "{claims}");
    }
    assert_eq!((&access["role"], &refresh["type"]), (&json!("owner"), &json!("refresh")));
    let life = |claims: &Value| claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    assert_eq!((life(access), life(refresh)), (15 * 60, 7 * 24 * 60 * 60));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_signed_as_ours_is_refused() {
    let control = Control::start().await;
    let owner = &control.owner;
    let (header, claims) = opened(&control, &[&owner.access_token]).remove(0);
    let kid = header["kid"].clone();
    let forged = |what: &str, headers: Value, algorithm, secret: &str| {
        let mut all = json!({"kid": kid});
        all.as_object_mut().unwrap().extend(headers.as_object().unwrap().clone());
        let (what, claims, secret) = (what.to_owned(), claims.clone(), secret.to_owned());
        Forged { what, claims, headers: all, algorithm, secret }
    };
    let secret = control.jwt_secret.as_str();
    let jwk = json!({"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"});
    let all = [
        forged("none", json!({}), "none", secret),
        forged("HS384", json!({}), "HS384", secret),
        forged("HS512", json!({}), "HS512", secret),
        forged("RS256", json!({}), "RS256", secret),
        forged("ES256", json!({}), "ES256", secret),
        forged("another's secret", json!({}), "HS256", "secret-secret-secret-secret-secret"),
        forged("kid of nobody", json!({"kid": "00000000"}), "HS256", secret),
        forged("kid that is a path", json!({"kid": "../../dev/null"}), "HS256", secret),
        forged("kid that is SQL", json!({"kid": "' OR 1=1 --"}), "HS256", secret),
        forged(
            "kid in another case",
            json!({"kid": kid.as_str().unwrap().to_uppercase() + "A"}),
            "HS256",
            secret,
        ),
        forged("crit", json!({"crit": ["exp"]}), "HS256", secret),
        forged("crit of nothing", json!({"crit": []}), "HS256", secret),
        forged("a key it brings", json!({"jwk": jwk}), "HS256", "secret-secret-secret-secret-secret"),
        forged(
            "a key it names",
            json!({"jku": format!("{}/jwks", owner.url)}),
            "HS256",
            "secret-secret-secret-secret-secret",
        ),
        forged(
            "a certificate it names",
            json!({"x5u": owner.url}),
            "HS256",
            "secret-secret-secret-secret-secret",
        ),
    ];
    for (token, forged) in Forged::sign(&all).iter().zip(&all) {
        let refused = me(&control, token).await;
        assert_eq!((refused.status, refused.code()), (401, "INVALID_TOKEN"), "{}: {refused:?}", forged.what);
    }
    let good = forged("good", json!({}), "HS256", secret);
    let [good] = &Forged::sign(&[good])[..] else { panic!("no token") };
    me(&control, good).await.expect(200);

    let parts: Vec<&str> = good.split('.').collect();
    let [header, payload, signature] = parts[..] else { panic!("{good}") };
    let mut tampered = signature.to_owned();
    tampered.replace_range(..1, if signature.starts_with('A') { "B" } else { "A" });
    let admin = Forged { claims: json!({"sub": "x"}), ..forged("", json!({}), "HS256", secret) };
    let [other] = &Forged::sign(&[admin])[..] else { panic!("no token") };
    let others = other.split('.').nth(1).unwrap();
    for token in [
        format!("{header}.{others}.{signature}"),
        format!("{header}.{payload}.{tampered}"),
        format!("{header}.{payload}.{}", &signature[..signature.len() - 2]),
        format!("{header}.{payload}."),
        format!("{header}.{payload}"),
        format!("{good}."),
        format!("{good}.{signature}"),
        format!("{good}="),
        format!(".{payload}.{signature}"),
        format!("{header}.{payload}.{signature}.{payload}.{signature}"),
        format!("{good}{}", "A".repeat(4000)),
        String::new(),
    ] {
        me(&control, &token).await.refused(401, "INVALID_TOKEN");
    }
    let twice = [("authorization", "Bearer x"), ("authorization", "Bearer y")];
    let nobody = owner.with_token("");
    let answer = nobody.call(reqwest::Method::GET, "/v1/admin/me", None, &twice).await;
    answer.refused(401, "INVALID_TOKEN");
    me(&control, good).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_that_are_not_ours_are_refused_though_the_signature_is() {
    let control = Control::start().await;
    let owner = &control.owner;
    let opened = opened(&control, &[&owner.access_token, &owner.refresh_token]);
    let [(header, access), (_, refresh)] = &opened[..] else { panic!("{opened:?}") };
    let now = system::now().unix_timestamp();
    let with = |claims: &Value, changes: Value| {
        let mut claims = claims.clone();
        for (name, value) in changes.as_object().unwrap() {
            if value == "(missing)" {
                claims.as_object_mut().unwrap().remove(name);
            } else {
                claims[name] = value.clone();
            }
        }
        Forged {
            what: changes.to_string(),
            claims,
            headers: json!({"kid": header["kid"]}),
            algorithm: "HS256",
            secret: control.jwt_secret.clone(),
        }
    };
    let huge: Value = serde_json::from_str("1000000000000000000000000000000").unwrap();
    let mut all = vec![
        with(access, json!({"exp": now - 6, "iat": now - 900})),
        with(access, json!({"iat": now + 600, "exp": now + 900})),
        with(access, json!({"exp": now + 1000})),
        with(access, json!({"type": "refresh"})),
        with(access, json!({"type": "access"})),
        with(access, json!({"sid": Uuid::new_v4()})),
        with(access, json!({"sub": Uuid::new_v4()})),
        with(access, json!({"org_id": Uuid::new_v4()})),
        with(refresh, json!({})),
        with(refresh, json!({"sid": access["sid"], "role": "owner"})),
    ];
    let odd = [
        json!("soon"),
        json!(format!("{}", now + 60)),
        json!(now as f64 + 60.5),
        json!(null),
        json!(-1),
        json!(0),
        huge,
        json!("(missing)"),
        json!([now + 60]),
        json!(true),
        json!(i64::MAX),
        json!(i64::MIN),
    ];
    for value in &odd {
        all.push(with(access, json!({ "exp": value })));
    }
    for value in &odd[..4] {
        all.push(with(access, json!({ "iat": value })));
    }
    for name in ["sub", "org_id", "role", "sid", "iat"] {
        all.push(with(access, json!({ name: "(missing)" })));
    }
    for (token, forged) in Forged::sign(&all).iter().zip(&all) {
        let refused = me(&control, token).await;
        assert_eq!(refused.status, 401, "{}: {refused:?}", forged.what);
    }
    // Within the leeway of 5 s: what is refused above is refused for its time. A slow machine may take longer
    // than that to ask, and signs anew.
    eventually("tokens within the leeway to be good", async || {
        let now = system::now().unix_timestamp();
        let good = [
            with(access, json!({"exp": now - 1, "iat": now - 900})),
            with(access, json!({"iat": now + 3, "exp": now + 900})),
            // The role at the time of the login does not count, only the one of now.
            with(access, json!({"role": "viewer"})),
        ];
        for (token, good) in Forged::sign(&good).iter().zip(&good) {
            let answer = me(&control, token).await;
            if answer.status != 200 {
                return Err(format!("{}: {answer:?}", good.what));
            }
        }
        Ok(())
    })
    .await;
    owner.get("/v1/admin/users").await.expect(200);

    // At refresh: ours, but not as it was issued. None of it is the reuse of a token.
    let all = [
        with(access, json!({})),
        with(access, json!({"type": "refresh", "jti": refresh["jti"]})),
        with(refresh, json!({"exp": now + 999_999})),
        with(refresh, json!({"jti": Uuid::new_v4()})),
        with(refresh, json!({"type": "access"})),
        with(refresh, json!({"type": "(missing)"})),
        with(refresh, json!({"sub": Uuid::new_v4()})),
        with(refresh, json!({"org_id": Uuid::new_v4()})),
    ];
    for (token, forged) in Forged::sign(&all).iter().zip(&all) {
        let refused = owner.refresh_with(token).await;
        assert_eq!((refused.status, refused.code()), (401, "INVALID_REFRESH_TOKEN"), "{}", forged.what);
    }
    let mut owner: Admin = owner.clone();
    owner.refresh().await.expect(200);
    owner.get("/v1/admin/me").await.expect(200);
}

//! Random events of the shapes that the field sends: none that names somebody usable is lost, and nothing that can't be
//! used ever links two people. `SHAPES_SEED=…` repeats a run.

use std::collections::{BTreeMap, BTreeSet};

use harness::{browser::Answer, people::named, signature::sign, system::env, world::World};
use proto::v1::{VendorIdsRequest, identity_ref::Id};
use rand::{
    RngExt, SeedableRng,
    rngs::StdRng,
    seq::{IndexedRandom, SliceRandom},
};
use reqwest::Method;
use serde_json::{Value, json};

const PEOPLE: usize = 24;
/// Batches of browsers, and as many of a server.
const BATCHES: usize = 8;
const EVENTS: usize = 60;

/// Values of any type where SDKs, languages and pages put them.
const ANY: &[&str] = &[
    "null",
    r#""""#,
    r#""  ""#,
    "[]",
    "{}",
    "0",
    "7",
    "-1",
    "1.5",
    "1e3",
    "true",
    "false",
    r#""text""#,
    r#""\u00e9\ud83c\udf6a""#,
    r#"[1,"a",null]"#,
    r#"{"a":{"b":[]}}"#,
    "12345678901234567890123",
    "12025550143",
    r#""null""#,
];
/// Identifiers that name nobody.
const NOBODY: &[&str] =
    &["null", r#""""#, r#"" \t""#, "{}", "[]", r#"{"id":7}"#, r#"["a"]"#, "1.5", "true", "false"];

/// Person as their events name them.
struct Person {
    browser: String,
    user: String,
}

impl Person {
    fn new(number: usize) -> Self {
        // Of every other one the database has a number.
        let user = if number.is_multiple_of(2) { format!("user-{number}") } else { format!("47{number:02}") };
        Self { browser: format!("browser-{number}"), user }
    }
}

/// An event, and who it names; none where there is nobody.
struct Shaped {
    json: String,
    names: Option<usize>,
}

/// Members of an object in random order, some of them twice.
fn object(mut members: Vec<String>, random: &mut StdRng) -> String {
    members.shuffle(random);
    format!("{{{}}}", members.join(","))
}

fn any(random: &mut StdRng) -> &'static str {
    ANY.choose(random).unwrap()
}

/// Members of `names`, each with any value, now and then twice or not at all.
fn members(names: &[&str], random: &mut StdRng) -> Vec<String> {
    let mut members = Vec::new();
    for name in names {
        for _ in 0..random.random_range(0..3) {
            members.push(format!("\"{name}\":{}", any(random)));
        }
    }
    members
}

/// An identifier in one spelling, and in the other nothing that counts, or the same.
fn id([camel, snake]: [&str; 2], value: &str, random: &mut StdRng) -> Vec<String> {
    let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
    let mut written = || match is_number && random.random() {
        true => value.to_owned(),
        false => format!("\"{value}\""),
    };
    let (first, again) = (written(), written());
    let other = if random.random() { NOBODY.choose(random).unwrap().to_string() } else { again };
    let mut names = [camel, snake, camel];
    names[..2].shuffle(random);
    let mut members = vec![format!("\"{}\":{first}", names[0])];
    if random.random() {
        members.push(format!("\"{}\":{other}", names[random.random_range(1..3)]));
    }
    members
}

fn no_id([camel, snake]: [&str; 2], random: &mut StdRng) -> Vec<String> {
    match random.random_range(0..3) {
        0 => Vec::new(),
        1 => vec![format!("\"{camel}\":{}", NOBODY.choose(random).unwrap())],
        _ => vec![format!("\"{camel}\":\"nobody-1\",\"{snake}\":\"nobody-2\"")],
    }
}

const ANONYMOUS_ID: [&str; 2] = ["anonymousId", "anonymous_id"];
const USER_ID: [&str; 2] = ["userId", "user_id"];

fn context(random: &mut StdRng) -> String {
    if random.random_range(0..4) == 0 {
        return any(random).to_owned();
    }
    let names =
        ["page", "traits", "consent", "userHash", "identityToken", "locale", "app", "consent", "page"];
    let mut all = members(&names, random);
    all.push(format!(
        "\"page\":{}",
        object(members(&["url", "search", "referrer", "title"], random), random)
    ));
    all.push(format!("\"traits\":{}", object(members(&["email", "phone", "phone_sha256"], random), random)));
    all.push(format!("\"reset\":{}", ["null", "false", r#""""#, "[]"].choose(random).unwrap()));
    object(all, random)
}

fn event(people: &[Person], random: &mut StdRng) -> Shaped {
    let names =
        ["type", "event", "name", "properties", "traits", "timestamp", "messageId", "integrations", "9"];
    let mut all = members(&names, random);
    let traits = members(&["email", "phone", "email_sha256", "phone_sha256", "age"], random);
    all.push(format!("\"traits\":{}", object(traits, random)));
    all.push(format!("\"context\":{}", context(random)));
    let number = random.random_range(0..people.len());
    let person = &people[number];
    let (has_browser, has_user) = (random.random_range(0..3) > 0, random.random_range(0..3) > 0);
    all.extend(match has_browser {
        true => id(ANONYMOUS_ID, &person.browser, random),
        false => no_id(ANONYMOUS_ID, random),
    });
    all.extend(match has_user {
        true => id(USER_ID, &person.user, random),
        false => no_id(USER_ID, random),
    });
    Shaped { json: object(all, random), names: (has_browser || has_user).then_some(number) }
}

/// Indices of the errors of an answer.
fn errors(answer: &Answer) -> BTreeSet<usize> {
    let body = answer.json();
    assert_eq!(answer.status, 200, "{body}");
    body["errors"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|error| usize::try_from(error["index"].as_u64().unwrap()).unwrap())
        .collect()
}

#[tokio::test]
async fn whoever_is_named_is_taken_and_nobody_becomes_two() {
    let seed = env("SHAPES_SEED").map_or_else(rand::random, |seed| seed.parse().unwrap());
    println!("SHAPES_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let world = World::start().await;
    let people: Vec<Person> = (0..PEOPLE).map(Person::new).collect();
    for batch in 0..2 * BATCHES {
        let events: Vec<Shaped> = (0..EVENTS).map(|_| event(&people, &mut random)).collect();
        let raw: Vec<&str> = events.iter().map(|event| event.json.as_str()).collect();
        let mut beside = members(&["sentAt", "syncs", "integrations"], &mut random);
        beside.push(format!("\"context\":{}", context(&mut random)));
        beside.push(format!("\"batch\":[{}]", raw.join(",")));
        let body = object(beside, &mut random);
        let mut sender = world.browser();
        let mut request = sender.request(Method::POST, "/v1/batch").bearer_auth(&sender.key);
        let is_server = batch % 2 == 1;
        if is_server {
            request = request.header("x-datafly-signature", sign(&world.customer.server_secret, &body));
        }
        let answer = sender.send(request.body(body)).await;
        // A browser is always somebody; a server's event has to name them.
        let nobody = events.iter().enumerate().filter(|(_, event)| is_server && event.names.is_none());
        let expected: BTreeSet<usize> = nobody.map(|(index, _)| index).collect();
        let lost = errors(&answer);
        if let Some(index) = lost.symmetric_difference(&expected).next() {
            panic!("the event at {index}: {}\n{}", events[*index].json, answer.text());
        }
    }

    let identities = people.iter().flat_map(|person| {
        [named(Id::AnonymousId(person.browser.clone())), named(Id::UserId(person.user.clone()))]
    });
    let request = VendorIdsRequest {
        org_id: world.customer.org_id.to_string(),
        identities: identities.collect(),
        fields: Vec::new(),
        ..VendorIdsRequest::default()
    };
    let known = world.internal().resolve().vendor_ids(request).await.unwrap().into_inner().identities;
    let mut owners: BTreeMap<&str, usize> = BTreeMap::new();
    for (place, identity) in known.iter().enumerate() {
        let person = place / 2;
        assert!(!identity.canonical_id.is_empty(), "person {person} is not known");
        let owner = *owners.entry(&identity.canonical_id).or_insert(person);
        assert_eq!(owner, person, "two people became one");
    }
    // Nothing else became an identifier, but what was made for browsers without one.
    let links: Value = {
        let sql = "SELECT coalesce(json_agg(json_build_array(kind, value)), '[]') FROM links";
        serde_json::from_str(&world.database.text(sql).await).unwrap()
    };
    let ids: BTreeSet<&str> =
        people.iter().flat_map(|one| [one.browser.as_str(), one.user.as_str()]).collect();
    for link in links.as_array().unwrap() {
        let value = link[1].as_str().unwrap();
        let is_made = link[0] == json!(0) && uuid::Uuid::try_parse(value).is_ok();
        assert!(ids.contains(value) || is_made, "{link} became an identifier");
    }
}

//! Laws of the callback, over thousands that are generated: an ID is stored for the visitor who was sent off, of the
//! customer whose key sent them, by the vendor that they were sent to, once; and whatever comes, the browser gets its GIF.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
};

use harness::{
    answers::assert_accepted,
    browser::Browser,
    eventually,
    seed::{Customer, seal_keys},
    system::now,
    vendor_sim::vendor,
    visits::granted,
    world::{Options, World, all_vendors},
};
use identity_service::{
    sync::state::{StateKeys, SyncState},
    vendors::{
        SyncVendor, find_sync,
        sync::{Mode, UidShape},
        syncs,
    },
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use time::{Duration, OffsetDateTime};
use url::Url;
use uuid::Uuid;

/// Callbacks that are sent.
const CALLBACKS: usize = 3000;
/// Callbacks after which all that is stored is compared with what should be.
const COMPARED_EACH: usize = 250;
/// Visitors of each customer.
const VISITORS: usize = 3;
/// The longest ID that is stored, in bytes.
const MAX_ID_BYTES: usize = 512;

/// A customer of the test's, with the keys that states are sealed for.
struct Shop {
    customer: Customer,
    /// The collect host's URL.
    collect: String,
    /// Keys by the organisation whose data they reach; none where the key is revoked or nobody's.
    keys: Vec<(Uuid, Option<Uuid>)>,
    vendors: Vec<&'static str>,
    /// Anonymous IDs of visitors with an identity and consent, and one of somebody who has neither.
    visitors: Vec<String>,
}

/// A state that was sealed, and what it was sealed for.
#[derive(Clone)]
struct Issued {
    text: String,
    shop: usize,
    /// The organisation whose data it may touch; none where it was sealed with another key, or for a key that is none.
    org: Option<Uuid>,
    content: SyncState,
}

/// Everything that is to be stored: values by organisation, anonymous ID and field.
type Stored = BTreeMap<(Uuid, String, &'static str), String>;

/// An ID in a callback's query, as the vendor's record judges it.
enum Id {
    Good(String),
    Missing,
    Invalid,
}

struct Run {
    world: World,
    shops: [Shop; 2],
    ours: StateKeys,
    theirs: StateKeys,
    random: StdRng,
    began: OffsetDateTime,
    issued: Vec<Issued>,
    stored: Stored,
    /// The time of the last state that was used, by organisation, anonymous ID and vendor.
    used: HashMap<(Uuid, String, String), OffsetDateTime>,
    /// Outcomes that were met, so that none is forgotten.
    met: BTreeSet<&'static str>,
}

#[tokio::test]
async fn nothing_but_the_vendor_s_id_is_stored_and_for_nobody_else() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut run = Run::start(StdRng::seed_from_u64(seed)).await;
    // A browser finds the host of one customer.
    let mut browsers = [0, 1].map(|shop: usize| run.world.browser_of(&run.shops[shop].customer));
    for number in 1..=CALLBACKS {
        run.call(&mut browsers, number).await;
        if number % COMPARED_EACH == 0 {
            assert_eq!(run.read().await, run.stored, "after {number} callbacks of seed {seed}");
        }
    }
    run.assert_delivered().await;
    let all = ["bad_state", "invalid_id", "no_canonical", "no_id", "replayed", "stored"];
    assert_eq!(run.met, BTreeSet::from(all), "seed {seed}");
}

impl Run {
    async fn start(random: StdRng) -> Self {
        let vendors = all_vendors().leak();
        // Addresses of browsers are theirs: so many callbacks of one would be throttled.
        let options = Options { vendors, trusted_proxies: "127.0.0.1/32", ..Options::default() };
        let world = World::with(options).await;
        let other = world.another_customer("explicit").await;
        let mut shops = Vec::new();
        for (customer, vendors) in [(world.customer.clone(), &*vendors), (other, &["pinterest"])] {
            let mut visitors = vec!["nobody-with-an-identity".to_owned()];
            for _ in 0..VISITORS {
                let mut browser = world.browser_of(&customer);
                assert_accepted(&browser.view(&granted()).await, 1);
                visitors.push(browser.aid().to_owned());
            }
            shops.push(Shop {
                keys: keys(&world, &customer).await,
                collect: world.cluster.collect_url_of(&customer),
                vendors: vendors.to_vec(),
                visitors,
                customer,
            });
        }
        let ours = StateKeys::derive(&seal_keys(&world.cluster.secrets.encryption_key, None));
        Self {
            shops: shops.try_into().unwrap_or_else(|_| unreachable!()),
            ours,
            theirs: StateKeys::derive(&seal_keys(&"5a".repeat(32), None)),
            random,
            began: now(),
            issued: Vec::new(),
            stored: Stored::new(),
            used: HashMap::new(),
            met: BTreeSet::new(),
            world,
        }
    }

    fn one_in(&mut self, count: u32) -> bool {
        self.random.random_range(0..count) == 0
    }

    fn choose<T: Clone>(&mut self, among: &[T]) -> T {
        among.choose(&mut self.random).unwrap().clone()
    }

    /// Seals a state; mostly one that counts.
    fn issue(&mut self, number: usize) -> Issued {
        let shop = self.random.random_range(0..2);
        let keys = self.shops[shop].keys.clone();
        // The first is the live key.
        let (key, org) = if self.one_in(6) { self.choose(&keys) } else { keys[0] };
        let visitors = self.shops[shop].visitors.clone();
        let anonymous_id = if self.one_in(12) { visitors[0].clone() } else { self.choose(&visitors[1..]) };
        let vendor = if self.one_in(12) {
            self.choose(&all_vendors())
        } else {
            self.choose(&self.shops[shop].vendors.clone())
        };
        // In the order of their numbers, milliseconds apart, within the minutes that a state lives.
        let step = Duration::milliseconds(i64::try_from(number).unwrap());
        let issued_at = match self.random.random_range(0..16) {
            0 => self.began - Duration::minutes(11) + step,
            1 => self.began + Duration::hours(1) + step,
            2 => self.began - Duration::minutes(1) + step,
            _ => self.began - Duration::seconds(20) + step,
        };
        let issued_at = issued_at.replace_millisecond(issued_at.millisecond()).unwrap();
        let content = SyncState { key, vendor: vendor.to_owned(), anonymous_id, issued_at };
        let is_ours = !self.one_in(20);
        let keys = if is_ours { &self.ours } else { &self.theirs };
        let text = keys.seal(&content).unwrap();
        Issued { text, shop, org: org.filter(|_| is_ours), content }
    }

    /// A value of the vendor's parameter, raw as it stands in the query, and what it is.
    fn id(&mut self, vendor: &SyncVendor, number: usize) -> (String, Id) {
        let own = self.assign(vendor, number);
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        match self.random.random_range(0..12) {
            0 => (String::new(), Id::Missing),
            1 => {
                let mut nobodys = vec!["none", "0", "[UID]", "undefined", "%2524%257BUID%257D"];
                nobodys.extend(vendor.sentinels);
                (self.choose(&nobodys).to_owned(), Id::Missing)
            }
            2 => (encoded(&own) + "%0d%0a", Id::Invalid),
            3 => (encoded(&own) + "%ff", Id::Invalid),
            4 => ("a1".repeat(MAX_ID_BYTES / 2 + 1), Id::Invalid),
            5 => (format!("{own}&{}={own}", vendor.uid_param), Id::Invalid),
            6 => (format!("{}&opt_out=1", encoded(&own)), Id::Missing),
            7 if vendor.uid_shape == UidShape::Opaque => {
                let long = format!("{number}-{}", "é".repeat(MAX_ID_BYTES / 2 - 4));
                (encoded(&long), Id::Good(long))
            }
            _ => (encoded(&own), Id::Good(own)),
        }
    }

    /// An ID as the vendor would assign it, which no other callback has.
    fn assign(&mut self, vendor: &SyncVendor, number: usize) -> String {
        let uuid = Uuid::from_u128(self.random.random::<u128>() | 1 << 126);
        match vendor.uid_shape {
            UidShape::Opaque => format!("{number}-+/=&ü {}", uuid.simple()),
            UidShape::Uuid => uuid.to_string(),
            UidShape::Hex32 => uuid.simple().to_string(),
            UidShape::TimedUuid => format!("1764400000000.{uuid}"),
        }
    }

    /// Sends one callback, and keeps what it should come to.
    async fn call(&mut self, browsers: &mut [Browser; 2], number: usize) {
        let known = self.issued.len();
        let state = match self.random.random_range(0..4) {
            // One of before, which was used or not.
            0 if known > 0 => self.issued[self.random.random_range(known.saturating_sub(40)..known)].clone(),
            _ => self.issue(number),
        };
        self.issued.push(state.clone());
        let path =
            if self.one_in(12) { self.choose(&all_vendors()) } else { vendor(&state.content.vendor).name };
        let shop = if self.one_in(12) { 1 - state.shop } else { state.shop };
        let record = find_sync(path).unwrap();
        let sent = if self.one_in(8) { self.spoiled(&state.text) } else { state.text.clone() };
        let (value, id) = self.id(record, number);

        let browser = &mut browsers[shop];
        browser.address = Some(format!("10.0.{}.{}", number % 256, self.random.random_range(1..255)));
        browser.jar.clear();
        let collect = self.shops[shop].collect.clone();
        let is_registered = matches!(record.mode, Mode::Registered { .. });
        let query = if is_registered && !self.one_in(4) {
            browser.jar.set(&collect, &format!("_dfs_{path}"), &sent);
            format!("{}={value}", record.uid_param)
        } else {
            format!("state={sent}&{}={value}", record.uid_param)
        };
        let visitors = self.shops[state.shop].visitors.clone();
        let dfid = if self.one_in(4) { Some(self.choose(&visitors)) } else { None };
        if let Some(dfid) = &dfid {
            browser.jar.set(&collect, "_dfid", dfid);
        }
        let mut url = Url::parse(&format!("{collect}/v1/sync/{path}/callback")).unwrap();
        url.set_query(Some(&query));
        let answer = browser.get(url.as_str()).await;
        assert!(answer.is_gif() && answer.body.len() == 43, "{url}: {} {:?}", answer.status, answer.headers);
        let may_end = format!("_dfs_{path}=;");
        assert!(
            answer.set_cookies().iter().all(|cookie| cookie.starts_with(&may_end)),
            "{:?}",
            answer.headers
        );

        let is_whole = sent == state.text && path == state.content.vendor && shop == state.shop;
        let is_own = dfid.is_none_or(|dfid| dfid == state.content.anonymous_id);
        let is_enabled = self.shops[state.shop].vendors.contains(&path);
        let org = state.org.filter(|_| is_whole && is_own && is_enabled && self.lives(&state.content));
        let outcome = self.expect(org, &state.content, record, id);
        self.met.insert(outcome);
    }

    /// A state that nobody has issued, made of one that was.
    fn spoiled(&mut self, text: &str) -> String {
        let other = self.issued[self.random.random_range(0..self.issued.len())].text.clone();
        let at = self.random.random_range(8..text.len().min(other.len()) - 1);
        match self.random.random_range(0..4) {
            0 => String::new(),
            1 => text[..at].to_owned(),
            2 => format!("{text}A"),
            _ if other == *text => text.to_ascii_uppercase(),
            _ => format!("{}{}", &text[..at], &other[at..]),
        }
    }

    fn lives(&self, state: &SyncState) -> bool {
        let ages: Range<Duration> = Duration::seconds(-30)..Duration::minutes(9);
        ages.contains(&(self.began - state.issued_at))
    }

    /// Works out what a callback comes to, where its state opens for an organisation, and keeps what is stored.
    fn expect(&mut self, org: Option<Uuid>, state: &SyncState, record: &SyncVendor, id: Id) -> &'static str {
        let Some(org) = org else { return "bad_state" };
        if matches!(id, Id::Invalid) {
            return "invalid_id";
        }
        let shop = self.shops.iter().find(|shop| shop.customer.org_id == org);
        if !shop.is_some_and(|shop| shop.visitors[1..].contains(&state.anonymous_id)) {
            return "no_canonical";
        }
        let whose = (org, state.anonymous_id.clone(), state.vendor.clone());
        if self.used.get(&whose).is_some_and(|last| *last >= state.issued_at) {
            return "replayed";
        }
        self.used.insert(whose, state.issued_at);
        let Id::Good(value) = id else { return "no_id" };
        self.stored.insert((org, state.anonymous_id.clone(), record.field), value);
        "stored"
    }

    /// Everything that is stored.
    async fn read(&self) -> Stored {
        let sql = "SELECT coalesce(json_agg(json_build_array(org_id, owner, field, value)), '[]')::text FROM vendor_ids";
        let rows: Vec<(Uuid, String, String, String)> =
            serde_json::from_str(&self.world.database.text(sql).await).unwrap();
        let count = rows.len();
        let field = |name: &str| syncs().map(|own| own.field).find(|own| *own == name).unwrap();
        let stored: Stored =
            rows.into_iter().map(|(org, owner, name, value)| ((org, owner, field(&name)), value)).collect();
        assert_eq!(stored.len(), count, "one value for each browser and field");
        stored
    }

    /// Checks that delivery gets for each visitor what is stored, and nothing else.
    async fn assert_delivered(&self) {
        for shop in &self.shops {
            let org = shop.customer.org_id;
            for visitor in &shop.visitors {
                let ids = self.world.vendor_ids_in(&org.to_string(), visitor).await.vendor_ids;
                let of_visitor = |((owner_org, owner, field), value): (&(Uuid, String, &str), &String)| {
                    (*owner_org == org && owner == visitor).then(|| ((*field).to_owned(), value.clone()))
                };
                let expected: BTreeMap<String, String> = self.stored.iter().filter_map(of_visitor).collect();
                let found: BTreeMap<String, String> =
                    ids.into_iter().map(|(field, id)| (field, id.value)).collect();
                assert_eq!(found, expected, "{visitor}");
            }
        }
    }
}

/// Keys of a customer by the organisation whose data they reach: the live one first, then the test key, one that was
/// revoked, and one that is none.
async fn keys(world: &World, customer: &Customer) -> Vec<(Uuid, Option<Uuid>)> {
    let id = async |condition: &str| -> Uuid {
        let source = customer.source_id;
        let sql = format!("SELECT id::text FROM pipeline_keys WHERE source_id = '{source}' AND {condition}");
        world.database.text(&sql).await.parse().unwrap()
    };
    let live = id("environment = 'live'").await;
    let test = id("environment = 'test'").await;
    let mut database = world.database.connection().await.unwrap();
    let revoked = format!("dk_live_{}", Uuid::new_v4().simple());
    customer.add_key(&mut database, "live", &revoked).await.unwrap();
    world
        .database
        .execute(&format!("UPDATE pipeline_keys SET revoked_at = now() WHERE key = '{revoked}'"))
        .await;
    // The core may have loaded it while it was good.
    let mut page = world.browser_of(customer);
    page.key = revoked;
    eventually("the core to know that the key is revoked", async || {
        match page.view(&granted()).await.status {
            401 => Ok(()),
            status => Err(status.to_string()),
        }
    })
    .await;
    let revoked = id("revoked_at IS NOT NULL").await;
    let test_org = customer.test_org_id;
    vec![(live, Some(customer.org_id)), (test, Some(test_org)), (revoked, None), (Uuid::now_v7(), None)]
}

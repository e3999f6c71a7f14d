//! A real browser on a page that has nothing but images: they go through vendors on sites of their own, the IDs are
//! stored, and nothing is left on the customer's site but its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use axum::{Router, extract::State, response::Html};
use harness::{
    chromium::Chromium,
    seed::Customer,
    vendor_sim::{Fault, VENDORS, Vendor, vendor},
    world::{Options, World},
};
use identity_service::vendors::{self, find_sync};
use serde_json::{Value, json};
use url::Url;

/// Vendor that answers with a script in place of a redirect, where a test has it do so.
const WITH_SCRIPT: &str = "x";
/// Text of a page without anything in it.
const BLANK: &str = "<!DOCTYPE html><html><head><title>Shop</title></head><body></body></html>";

/// A world with a shop on `www.shop.localhost`, whose pages are `page`, and each vendor on a site of its own.
struct Shop {
    world: World,
    customer: Customer,
    page: Arc<Mutex<String>>,
    collect: String,
}

#[tokio::test]
async fn images_alone_bring_every_vendor_s_id() {
    let mut chromium = Chromium::start(true).await;
    let shop = Shop::open().await;
    let aid = shop.visit(&mut chromium).await;
    let all: BTreeSet<&str> = VENDORS.iter().map(|vendor| vendor.name).collect();
    shop.load_images(&mut chromium, &aid, &all).await;
    assert_eq!(shop.stored(&aid).await, ids(&all));
    // A vendor that knows the browser by its cookie.
    assert_eq!(shop.cookies_of_vendors(&mut chromium).await, all);
}

/// Without third-party cookies the ID comes all the same, in each of the ways in which vendors return it: the state travels
/// in the URL, or in a cookie of the collect host, which is on the page's own site. But no vendor's cookie is kept, so the
/// next sync brings an ID of somebody new.
#[tokio::test]
async fn images_bring_ids_where_third_parties_keep_no_cookies() {
    let mut chromium = Chromium::start(false).await;
    let shop = Shop::open().await;
    let aid = shop.visit(&mut chromium).await;
    let all: BTreeSet<&str> = VENDORS.iter().map(|vendor| vendor.name).collect();
    shop.load_images(&mut chromium, &aid, &all).await;
    assert_eq!(shop.stored(&aid).await, ids(&all));
    assert_eq!(shop.cookies_of_vendors(&mut chromium).await, BTreeSet::new());
}

#[tokio::test]
async fn a_vendor_s_script_does_not_run() {
    let mut chromium = Chromium::start(true).await;
    let shop = Shop::open().await;
    shop.world.vendors.misbehave(WITH_SCRIPT, Some(Fault::Script));
    let aid = shop.visit(&mut chromium).await;
    let both = BTreeSet::from(["criteo", WITH_SCRIPT]);
    shop.load_images(&mut chromium, &aid, &both).await;
    assert_eq!(shop.stored(&aid).await, ids(&BTreeSet::from(["criteo"])));
    assert_eq!(shop.world.vendors.seen().len(), 2, "the script has called its vendor");
}

/// The IDs that the vendors assign, by field.
fn ids(names: &BTreeSet<&str>) -> BTreeMap<String, String> {
    let id = |name: &&str| (find_sync(name).unwrap().field.to_owned(), vendor(name).id.to_owned());
    names.iter().map(id).collect()
}

/// The host of a vendor, on a site of its own.
fn host(vendor: &Vendor) -> String {
    format!("ads.{}.localhost", vendor.name.replace('_', "-"))
}

impl Shop {
    async fn open() -> Self {
        let options = Options { vendors: &[], generated: &["meta", "google"], ..Options::default() };
        let world = World::with(options).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://www.shop.localhost:{}", listener.local_addr().unwrap().port());
        let page = Arc::new(Mutex::new(BLANK.to_owned()));
        let served = async |State(page): State<Arc<Mutex<String>>>| Html(page.lock().unwrap().clone());
        let router = Router::new().fallback(served).with_state(Arc::clone(&page));
        tokio::spawn(async move { axum::serve(listener, router).await });

        let collect_name = "collect.shop.localhost".to_owned();
        let customer = Customer { origin, collect_name, ..world.customer.clone() };
        let collect = world.cluster.collect_url_of(&customer);
        let sql = format!("UPDATE sources SET domains = ARRAY['{}']", customer.origin);
        world.database.execute(&sql).await;
        let mut database = world.database.connection().await.unwrap();
        for vendor in VENDORS.iter() {
            let mut endpoint = Url::parse(&world.vendors.endpoint(vendor.name)).unwrap();
            endpoint.set_host(Some(&host(vendor))).unwrap();
            customer.add_sync(&mut database, vendor.name, 30, endpoint.as_str()).await.unwrap();
            world.cluster.agree(&customer, &world.vendors, vendor.name);
        }
        customer.add_collect_host(&mut database, &collect).await.unwrap();
        world.cluster.knows(&customer).await.unwrap();
        Self { world, customer, page, collect }
    }

    /// Has a visitor send a page view, as an image makes no identity; answers with their anonymous ID.
    async fn visit(&self, chromium: &mut Chromium) -> String {
        chromium.open(&format!("{}/", self.customer.origin)).await;
        let event = json!({"type": "page", "context": {"consent": {"marketing": true}}}).to_string();
        let answer = chromium
            .run(&format!(
                "fetch('{}/v1/p', {{method: 'POST', credentials: 'include', body: {}, \
                 headers: {{Authorization: 'Bearer {}'}}}}).then(answer => answer.json())",
                self.collect,
                json!(event),
                self.customer.live_key
            ))
            .await;
        answer["anonymous_id"].as_str().unwrap_or_else(|| panic!("no ID in {answer}")).to_owned()
    }

    /// Loads a page with an image for each vendor and nothing else, and checks all that has to hold of such a page.
    async fn load_images(&self, chromium: &mut Chromium, aid: &str, names: &BTreeSet<&str>) {
        let image = |name: &&str| {
            let key = &self.customer.live_key;
            format!(r#"<img src="{}/v1/sync/{name}?pipeline_key={key}&amp;aid={aid}">"#, self.collect)
        };
        let images: String = names.iter().map(image).collect();
        let page = BLANK.replace("<body>", &format!("<body>{images}"));
        self.page.lock().unwrap().clone_from(&page);
        chromium.call("Debugger.enable", json!({})).await;
        let events = chromium.open(&format!("{}/images", self.customer.origin)).await;

        assert_eq!(chromium.html().await, page, "the document was changed");
        let scripts: Vec<&Value> =
            events.iter().filter(|event| event["method"] == "Debugger.scriptParsed").collect();
        assert!(scripts.is_empty(), "{scripts:?}");
        let loaded = |event: &&Value| event["method"] == "Network.requestWillBeSent";
        let loads: BTreeSet<&str> =
            events.iter().filter(loaded).map(|event| event["params"]["type"].as_str().unwrap()).collect();
        assert_eq!(loads, BTreeSet::from(["Document", "Image"]), "nothing but images is loaded");
        for seen in self.world.vendors.seen() {
            let header = |name: &str| seen.headers.get(name).map(|value| value.to_str().unwrap());
            assert!(header("host").unwrap().starts_with(&host(vendor(seen.vendor))), "{seen:?}");
            assert_eq!((header("referer"), header("cookie")), (None, None), "{}", seen.vendor);
        }
        self.assert_own_cookies(chromium).await;
    }

    /// Checks that the customer's site has cookies of ours, and those that are the vendors' own first-party ones.
    async fn assert_own_cookies(&self, chromium: &mut Chromium) {
        let generated = vendors::generated_ids().map(|id| id.cookie);
        let ours: BTreeSet<&str> = generated.chain(["_dfid"]).collect();
        let cookies = chromium.cookies().await;
        let on_site = cookies.iter().filter(|cookie| is_on(cookie, "shop.localhost"));
        let names: BTreeSet<&str> = on_site.map(|cookie| cookie["name"].as_str().unwrap()).collect();
        assert!(names.contains("_dfid") && names.contains("_fbp"), "{names:?}");
        assert!(names.is_subset(&ours), "the state's cookies are gone, and there is no other: {names:?}");
    }

    /// The vendors that keep a cookie, each on its own site.
    async fn cookies_of_vendors(&self, chromium: &mut Chromium) -> BTreeSet<&'static str> {
        let cookies = chromium.cookies().await;
        let of_vendor = |vendor: &&Vendor| cookies.iter().any(|cookie| is_on(cookie, &host(vendor)));
        let foreign = cookies.iter().filter(|cookie| !is_on(cookie, "shop.localhost")).count();
        let keeping: BTreeSet<&str> = VENDORS.iter().filter(of_vendor).map(|vendor| vendor.name).collect();
        assert_eq!(foreign, keeping.len(), "{cookies:?}");
        keeping
    }

    /// The IDs of vendors' syncs that are delivered for the visitor, by field.
    async fn stored(&self, aid: &str) -> BTreeMap<String, String> {
        let ids = self.world.vendor_ids(aid).await.vendor_ids;
        let of_sync = vendors::syncs().map(|vendor| vendor.field).collect::<BTreeSet<_>>();
        let of_sync = ids.into_iter().filter(|(field, _)| of_sync.contains(&**field));
        of_sync.map(|(field, id)| (field, id.value)).collect()
    }
}

/// True where a cookie is on that host, or on one below.
fn is_on(cookie: &Value, host: &str) -> bool {
    let domain = cookie["domain"].as_str().unwrap().trim_start_matches('.');
    domain == host || domain.ends_with(&format!(".{host}"))
}

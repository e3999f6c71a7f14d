//! A week of visitors, whose metrics the core exports hour by hour: the alert rules on what it exported.

use std::{collections::BTreeMap, fmt::Write, fs, process::Command};

use harness::{
    answers::{assert_accepted, assert_gif},
    browser::Browser,
    clock::TimedWorld,
    vendor_sim::Fault,
    visits::granted,
    world::{Options, World},
};

/// Hours between two exports.
const STEP_HOURS: u32 = 2;
/// Exports in a week, after that of its beginning.
const STEPS: usize = 7 * 12;
/// Visitors who come for the first time between two exports: 60 a day.
const NEW_VISITORS: usize = 5;
const CHROMIUM: &str = "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko) Chrome/157.0.0.0 Safari/537.36";
const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:160.0) Gecko/20100101 Firefox/160.0";

/// One visitor's visit: what is offered is fired, and a blocker lets no request to a vendor pass.
async fn visit(browser: &mut Browser, is_blocked: bool) {
    let answer = browser.view(&granted()).await;
    assert_accepted(&answer, 1);
    for vendor in answer.offered() {
        if is_blocked {
            assert_eq!(browser.get(&browser.sync_url(&vendor)).await.status, 302, "{vendor}");
        } else if vendor == "pinterest" {
            assert_gif(browser.sync(&vendor).await.last().unwrap());
        } else {
            // It answers 200, and sends nobody back.
            let hops = browser.sync(&vendor).await;
            assert_eq!(hops.iter().map(|hop| hop.status).collect::<Vec<_>>(), [302, 200], "{vendor}");
        }
    }
}

/// Values of every series of gateway sync, by series, one an export.
type Exports = BTreeMap<String, Vec<String>>;

async fn export(world: &World, exports: &mut Exports) {
    let page = world.cluster.cores[0].metrics().await;
    for line in page.text().lines().filter(|line| line.starts_with("datafly_sync_")) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        if !series.contains("_bucket") {
            exports.entry(series.to_owned()).or_default().push(value.to_owned());
        }
    }
}

/// The exports as a test of `promtool`, with what is expected after the week.
fn promtool_test(exports: &Exports, expected: &[(&str, &str)]) -> String {
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/monitoring/alerts.yml");
    let mut test = format!(
        "rule_files: [{rules}]\nevaluation_interval: 5m\ntests:\n  - interval: {STEP_HOURS}h\n    input_series:\n"
    );
    for (series, values) in exports {
        // A series that began later has no values before.
        let missing = "_ ".repeat(STEPS + 1 - values.len());
        writeln!(test, "      - {{ series: '{series}', values: '{missing}{}' }}", values.join(" ")).unwrap();
    }
    test += "    promql_expr_test:\n";
    for (expr, samples) in expected {
        writeln!(test, "      - {{ expr: '{expr}', eval_time: 7d, exp_samples: [{samples}] }}").unwrap();
    }
    test
}

/// Of a hundred new browsers 35 have a blocker, and come back each day. Beside the vendor that works there is a dead one.
#[tokio::test(flavor = "multi_thread")]
async fn a_week_s_exports_tell_blocked_visitors_from_a_dead_vendor() {
    let options = Options { vendors: &["criteo", "pinterest"], ..Options::default() };
    let mut timed = TimedWorld::start(options).await.unwrap();
    timed.world.vendors.tell_apart();
    timed.world.vendors.misbehave("criteo", Some(Fault::NoRedirect));
    let (mut exports, mut blocked) = (Exports::new(), Vec::new());
    export(&timed.world, &mut exports).await;
    for step in 0..STEPS {
        for number in 0..NEW_VISITORS {
            let visitor = step * NEW_VISITORS + number;
            let is_blocked = visitor * 7 % 20 < 7;
            let mut browser = timed.world.browser();
            let agent = if is_blocked && visitor.is_multiple_of(2) { FIREFOX } else { CHROMIUM };
            browser.user_agent = Some(agent.to_owned());
            visit(&mut browser, is_blocked).await;
            if is_blocked {
                blocked.push((step, browser));
            }
        }
        for (since, browser) in &mut blocked {
            // An hour of the day at which they come, and a step more, so that a day of waiting is over.
            if *since + 13 <= step && (step - *since).is_multiple_of(13) {
                visit(browser, true).await;
            }
        }
        timed.advance(STEP_HOURS * 3600).await;
        export(&timed.world, &mut exports).await;
    }
    let tries = timed.world.metric("datafly_sync_attempted_total", &[("vendor", "pinterest")]).await;
    let stored = timed.world.metric("datafly_sync_succeeded_total", &[("vendor", "pinterest")]).await;
    assert!(stored / tries < 0.45, "every try counted, it would be half of that: {stored} of {tries}");

    let near = |series: &str, value: f64| format!("abs({series} - {value}) < bool 0.02");
    let rate = near("vendor:sync_match_rate:ratio_7d{vendor=\"pinterest\"}", 0.65);
    let of_firefox =
        near("vendor_browser:sync_match_rate:ratio_7d{vendor=\"pinterest\",browser=\"firefox\"}", 0.0);
    let expected = [
        (&*rate, "{ labels: '{vendor=\"pinterest\"}', value: 1 }"),
        (&*of_firefox, "{ labels: '{vendor=\"pinterest\",browser=\"firefox\"}', value: 1 }"),
        (
            "vendor:sync_match_rate:ratio_7d{vendor=\"criteo\"}",
            "{ labels: 'vendor:sync_match_rate:ratio_7d{vendor=\"criteo\"}', value: 0 }",
        ),
        (
            "count by (alertname, vendor) (ALERTS{alertname=~\"Sync.*\",alertstate=\"firing\"})",
            "{ labels: '{alertname=\"SyncMatchRateLow\",vendor=\"criteo\"}', value: 1 }, \
             { labels: '{alertname=\"SyncVendorNeverAnswers\",vendor=\"criteo\"}', value: 1 }",
        ),
    ];
    let file = std::env::temp_dir().join(format!("signal-identity-week-{}.yml", std::process::id()));
    fs::write(&file, promtool_test(&exports, &expected)).unwrap();
    let tried = Command::new("promtool").args(["test", "rules"]).arg(&file).output();
    let tried = tried.expect("promtool is not installed; `make test` installs it");
    let said = [tried.stdout, tried.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(tried.status.success(), "{said}\n{}", fs::read_to_string(&file).unwrap());
    fs::remove_file(file).unwrap();
}

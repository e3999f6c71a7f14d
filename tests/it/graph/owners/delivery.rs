//! `VendorIds` with a browser beside another ID: that ID says who it is, the browser whose own values come
//! first.

use harness::people::{People, beside, browser, canonical, cookie, give, login, named, user, visit};
use proto::v1::{
    ConsentSignals, DeleteRequest, ExportRequest, IdentityRef, IdentityVendorIds, LookupRequest, Subject,
    VendorIdsRequest,
};
use serde_json::{Value, json};
use tonic::Code;

use super::super::support::{assert_sound, two_cores};

fn consenting(browser: &str, signals: &Value) -> Subject {
    let consent = Some(ConsentSignals { json: Some(signals.to_string()), sec_gpc: false });
    Subject { consent, ..visit(browser) }
}

#[tokio::test]
async fn a_browser_beside_an_id_is_answered_as_that_browser_if_it_is_the_person_s() {
    let world = two_cores().await;
    let people = People::of(&world);
    let anna = people.see(0, login("phone", "anna")).await.canonical_id;
    let old = people.see(1, visit("laptop")).await.canonical_id;
    people.see(1, cookie("phone", "laptop")).await;
    let bert = people.see(0, login("tablet", "bert")).await.canonical_id;
    for (browser, signals) in [
        ("phone", json!({"marketing": true, "analytics": false})),
        ("laptop", json!({"marketing": true})),
        ("tablet", json!({"marketing": true, "functional": true})),
    ] {
        people.see(0, consenting(browser, &signals)).await;
    }
    for (owner, field, value) in [
        ("phone", "pin_unauth", "pin-of-phone"),
        ("laptop", "pin_unauth", "pin-of-laptop"),
        ("laptop", "ttd_id", "trade-of-laptop"),
        ("tablet", "pin_unauth", "pin-of-tablet"),
    ] {
        give(&world, browser(owner), field, value).await;
    }
    for flush in [false, true] {
        if flush {
            world.flush_redis().await;
        }
        let [phone, laptop, person] = [browser("phone"), browser("laptop"), user("anna")].map(named);
        let (phone, laptop) = (people.delivered_for(phone).await, people.delivered_for(laptop).await);
        let person = people.delivered_for(person).await;
        let pin = |told: &IdentityVendorIds| told.vendor_ids["pin_unauth"].value.clone();
        assert_eq!([&phone, &laptop].map(pin), ["pin-of-phone", "pin-of-laptop"]);
        assert!(!phone.vendor_ids.contains_key("ttd_id") && laptop.vendor_ids.contains_key("ttd_id"));
        assert_ne!(phone.consent, laptop.consent);

        let nobody = IdentityVendorIds::default();
        for (what, identity, expected) in [
            ("by canonical ID", beside(canonical(&anna), "phone"), &phone),
            ("by user ID", beside(user("anna"), "phone"), &phone),
            ("by a merged canonical ID", beside(canonical(&old), "phone"), &phone),
            ("another browser", beside(canonical(&anna), "laptop"), &laptop),
            ("beside itself", beside(browser("phone"), "phone"), &phone),
            ("in the place of an anonymous ID", beside(browser("phone"), "laptop"), &laptop),
            ("without one", named(canonical(&anna)), &person),
            (
                "an unknown person",
                beside(canonical("01a1fbff-b764-7516-8e07-3d984722b735"), "phone"),
                &nobody,
            ),
            ("an unknown user", beside(user("carl"), "phone"), &nobody),
        ] {
            assert_eq!(people.delivered_for(identity).await, *expected, "{what}");
        }
        // A browser that is not the person's has no values here; its consent is its own affair.
        for (what, identity) in [
            ("of somebody else", beside(canonical(&anna), "tablet")),
            ("of nobody", beside(user("anna"), "unheard-of")),
            ("a placeholder", beside(canonical(&anna), "null")),
        ] {
            let told = people.delivered_for(identity).await;
            assert_eq!((&told.canonical_id, &told.vendor_ids), (&anna, &person.vendor_ids), "{what}");
        }
        let told = people.delivered_for(beside(canonical(&bert), "phone")).await;
        assert_eq!((told.canonical_id.as_str(), pin(&told).as_str()), (bert.as_str(), "pin-of-tablet"));
    }
    assert_sound(&world).await;
}

#[tokio::test]
async fn fields_that_are_asked_for_are_the_browser_s_own_too() {
    let world = two_cores().await;
    let people = People::of(&world);
    let page = People::on_page(&world);
    people.see(0, login("phone", "anna")).await;
    page.see(1, login("laptop", "anna")).await;
    let anna = people.canonical(user("anna")).await;
    for (owner, field, value) in [
        ("phone", "pin_unauth", "pin-of-phone"),
        ("laptop", "pin_unauth", "pin-of-laptop"),
        ("laptop", "ttd_id", "trade-of-laptop"),
    ] {
        give(&world, browser(owner), field, value).await;
    }
    let ask = async |core: usize, identities: Vec<IdentityRef>, fields: &[&str]| {
        let fields = fields.iter().map(|field| (*field).to_owned()).collect();
        let request = VendorIdsRequest {
            org_id: world.customer.org_id.to_string(),
            identities,
            fields,
            ..VendorIdsRequest::default()
        };
        let api = world.cluster.api(core, &world.cluster.secrets.internal_token).unwrap();
        let told = api.resolve().vendor_ids(request).await.unwrap().into_inner().identities;
        let text = |one: IdentityVendorIds| {
            let values = one.vendor_ids.into_iter().map(|(field, id)| format!("{field}={}", id.value));
            values.collect::<Vec<_>>().join(" ")
        };
        told.into_iter().map(text).collect::<Vec<_>>()
    };
    // The laptop only claims: the phone is told nothing of it, not even where the person has a value.
    for (fields, expected) in [
        (
            &["pin_unauth"][..],
            ["pin_unauth=pin-of-phone", "pin_unauth=pin-of-laptop", "pin_unauth=pin-of-phone"],
        ),
        (&["ttd_id"][..], ["", "ttd_id=trade-of-laptop", "ttd_id=trade-of-laptop"]),
        (&["muid"][..], ["", "", ""]),
    ] {
        for core in [0, 1, 0] {
            let identities = || {
                vec![
                    beside(canonical(&anna), "phone"),
                    beside(canonical(&anna), "laptop"),
                    named(canonical(&anna)),
                ]
            };
            assert_eq!(ask(core, identities(), fields).await, expected, "{fields:?}");
        }
    }
    assert_sound(&world).await;
}

#[tokio::test]
async fn a_person_is_looked_up_exported_and_erased_whole_or_not_at_all() {
    let world = two_cores().await;
    let people = People::of(&world);
    let anna = people.see(0, login("phone", "anna")).await.canonical_id;
    let (org_id, identity) = (world.customer.org_id.to_string(), Some(beside(canonical(&anna), "phone")));
    let admin = world.admin();
    let looked_up =
        admin.people().lookup(LookupRequest { org_id: org_id.clone(), identity: identity.clone() }).await;
    let exported =
        admin.people().export(ExportRequest { org_id: org_id.clone(), identity: identity.clone() }).await;
    let erased = admin.people().delete(DeleteRequest { org_id, identity }).await;
    for refused in [looked_up.err(), exported.err(), erased.err()] {
        assert_eq!(refused.unwrap().code(), Code::InvalidArgument);
    }
    assert_eq!(people.canonical(browser("phone")).await, anna);
}

//! Parts that tests of credentials share.

use harness::{
    control::{Admin, Control},
    eventually,
    seed::seal_keys,
};
use migrations::sealed::columns::Column;
use serde_json::json;
use uuid::Uuid;

/// Opens what is sealed in the one row of a table that meets a condition.
pub async fn opened(control: &Control, column: Column, condition: &str) -> String {
    let row = |what: &str| {
        let sql = format!("SELECT {what} FROM {} WHERE {condition}", column.table);
        async move { control.world.database.text(&sql).await }
    };
    let (id, org, blob) = (row("id").await, row("org_id").await, row("encode(sealed, 'hex')").await);
    let keys = seal_keys(&control.world.cluster.secrets.encryption_key, None);
    let place = column.place(org.parse().unwrap(), id.parse().unwrap());
    String::from_utf8(keys.open(place, &hex::decode(blob).unwrap()).unwrap().to_vec()).unwrap()
}

/// Makes a source, waits until the core knows its organisation, and answers with its path,
/// `/v1/admin/sources/…`.
pub async fn source(owner: &Admin) -> String {
    let made = owner.post("/v1/admin/sources", &json!({"name": "Shop"})).await;
    let path = format!("/v1/admin/sources/{}", made.text("id"));
    eventually("the core to know the organisation", async || {
        let answer = owner.put(&format!("{path}/enrichment/uid2"), &json!({"enabled": false})).await;
        if answer.status < 300 { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    owner.delete(&format!("{path}/enrichment/uid2")).await.expect(204);
    path
}

/// Seals a text in place of what is sealed in the one row of a table that meets a condition.
pub async fn reseal(control: &Control, column: Column, condition: &str, plain: &str) {
    let database = &control.world.database;
    let row = async |what: &str| {
        database.text(&format!("SELECT {what} FROM {} WHERE {condition}", column.table)).await
    };
    let ids: [Uuid; 2] = [row("org_id").await, row("id").await].map(|id| id.parse().unwrap());
    let keys = seal_keys(&control.world.cluster.secrets.encryption_key, None);
    let sealed = hex::encode(keys.seal(column.place(ids[0], ids[1]), plain.as_bytes()).unwrap());
    database
        .execute(&format!("UPDATE {} SET sealed = '\\x{sealed}' WHERE id = '{}'", column.table, ids[1]))
        .await;
}

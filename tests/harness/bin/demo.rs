//! The demo: everything started, one visitor's story told, and commands to go on with.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use harness::{
    cluster::{Cluster, Setup},
    control::Admin,
    delivery_story,
    enrich_sim::EnrichSim,
    enrich_story,
    process::{Service, run},
    profile_story,
    seed::Customer,
    story,
    system::{build_folder, env},
    vendor_sim::VendorSim,
    world::all_vendors,
};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use uuid::Uuid;

/// Starts Signal Identity with simulated vendors and shows what it does.
#[derive(Parser)]
struct Cli {
    /// End after the story, with an error if a step was wrong.
    #[arg(long)]
    once: bool,
}

/// The demo's processes, which end with this one.
struct Demo {
    cluster: Cluster,
    management: Service,
    processor: Service,
    vendors: VendorSim,
    providers: EnrichSim,
    customer: Customer,
    admin_email: String,
    admin_password: String,
    database_url: String,
    redis_url: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let told = async {
        let demo = Demo::start().await?;
        let stores = (demo.database_url.as_str(), demo.redis_url.as_str());
        story::tell(&demo.cluster, &demo.customer, &demo.providers, stores).await?;
        // Whoever tries it with many visitors of their own has vendors as they are.
        demo.vendors.tell_apart();
        anyhow::Ok(demo)
    };
    let mut demo = tokio::select! {
        demo = told => demo.context("the demo failed")?,
        _ = interrupted.recv() => return Ok(()),
        _ = terminated.recv() => return Ok(()),
    };
    let path = build_folder()?.join("../demo.env").canonicalize()?;
    println!("\nThe story is over, and every answer was as it should be.");
    if !cli.once {
        demo.invite(&path.display().to_string());
        tokio::select! {
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
        }
        println!("\nStopping …");
    }
    demo.cluster.edge.terminate().await;
    demo.processor.terminate().await;
    demo.management.terminate().await;
    for core in &mut demo.cluster.cores {
        core.terminate().await;
    }
    Ok(())
}

impl Demo {
    async fn start() -> Result<Self> {
        let missing = "is not set: run `make demo`, which starts the stores";
        let database_url = env("DATABASE_URL").with_context(|| format!("DATABASE_URL {missing}"))?;
        let redis_url = env("REDIS_URL").with_context(|| format!("REDIS_URL {missing}"))?;
        let began = Instant::now();
        let progress = |what: &str| println!("[{:>4.1} s] {what}", began.elapsed().as_secs_f32());

        progress("Migrating the database …");
        let migrated =
            run("identity-service", &["--migrate"], &[("DATABASE_URL", &database_url)], "").await?;
        ensure!(migrated.status.success(), "identity-service --migrate: {}", migrated.text());

        progress("Creating an organisation and its owner …");
        let admin_email = format!("owner-{}@demo.example", &Uuid::new_v4().simple().to_string()[..8]);
        let admin_password = Uuid::new_v4().to_string();
        let owner = ["create-owner", "--email", &admin_email, "--org", "Demo Shop"];
        let made = run("management", &owner, &[("DATABASE_URL", &database_url)], &admin_password).await?;
        ensure!(made.status.success(), "management create-owner: {}", made.text());
        let org_id: Uuid = String::from_utf8_lossy(&made.stdout).trim().parse().context("create-owner")?;

        progress("Starting the services and the vendors' simulators …");
        let cluster = Cluster::start(&Setup {
            database_url: database_url.clone(),
            redis_url: redis_url.clone(),
            cores: 1,
            core_addr: preferred(50051)?,
            edge_addr: preferred(8080)?,
            log_level: "info".to_owned(),
            trusted_proxies: String::new(),
            // Providers of one's own are tried out on one's own machine.
            open_networks: "127.0.0.0/8, ::1".to_owned(),
        })
        .await?;
        let management = start_management(&cluster, &database_url).await?;
        let (vendors, providers) = (VendorSim::start().await?, EnrichSim::start().await?);

        progress("Setting up a source with a live key and every vendor, over the management API …");
        let mut admin =
            Admin::new(format!("http://{}", management.addr("http")), org_id, admin_email.clone())?;
        admin.log_in(&admin_password).await.expect(200);
        let me = admin.get("/v1/admin/me").await.expect(200);
        let customer = set_up(&admin, id(&me, "test_org_id")?, &cluster, &vendors, &providers).await?;
        let processor = delivery_story::start_processor(&cluster, &database_url).await?;
        let demo = Self {
            cluster,
            management,
            processor,
            vendors,
            providers,
            customer,
            admin_email,
            admin_password,
            database_url,
            redis_url,
        };
        let path = build_folder()?.join("../demo.env");
        fs::write(&path, demo.environment())?;
        progress(&format!("Ready. Names and secrets are in {}.", path.canonicalize()?.display()));
        Ok(demo)
    }

    /// Writes `target/demo.env`, which a shell can source for the commands that are shown.
    fn environment(&self) -> String {
        let Self { cluster, management, processor, customer, .. } = self;
        let services = [&cluster.cores[0], &cluster.edge, management, processor];
        let metrics = services.map(|service| format!("http://{}/metrics", service.addr("metrics"))).join(",");
        let values = [
            ("EDGE_URL", cluster.collect_url()),
            ("MANAGEMENT_URL", format!("http://{}", management.addr("http"))),
            ("IDENTITY_ADDR", cluster.cores[0].addr("grpc").to_string()),
            ("METRICS_URLS", metrics),
            ("ORG_ID", customer.org_id.to_string()),
            ("SOURCE_ID", customer.source_id.to_string()),
            ("PIPELINE_ID", customer.pipeline_id.to_string()),
            ("PIPELINE_KEY", customer.live_key.clone()),
            ("ALLOWED_ORIGIN", customer.origin.clone()),
            ("SERVER_SECRET", customer.server_secret.clone()),
            ("SERVICE_TOKEN", cluster.secrets.operator_token.clone()),
            ("ADMIN_EMAIL", self.admin_email.clone()),
            ("ADMIN_PASSWORD", self.admin_password.clone()),
            ("DATABASE_URL", self.database_url.clone()),
            ("REDIS_URL", self.redis_url.clone()),
            ("VENDOR_SIM_URL", format!("http://{}", self.vendors.addr)),
        ];
        values.into_iter().map(|(name, value)| format!("{name}={value}\n")).collect()
    }

    /// Commands to paste into another terminal.
    fn invite(&self, env_file: &str) {
        println!(
            r#"
Try it from another terminal:

  set -a; . {env_file}; set +a

  # A visitor of your own: resolved, and offered syncs
  curl -s "$EDGE_URL/v1/batch" -H "Authorization: Bearer $PIPELINE_KEY" -H "Origin: $ALLOWED_ORIGIN" \
    -d '{{"batch":[{{"type":"page","anonymousId":"visitor-2","context":{{"consent":{{"marketing":true}}}}}}]}}'

  # The management API, browsable at $MANAGEMENT_URL/docs: log in, and look the visitor up
  TOKEN=$(curl -s "$MANAGEMENT_URL/v1/admin/auth/login" -H 'Content-Type: application/json' \
    -d '{{"email":"'$ADMIN_EMAIL'","password":"'$ADMIN_PASSWORD'"}}' | sed 's/.*"access_token":"\([^"]*\)".*/\1/')
  curl -s "$MANAGEMENT_URL/v1/admin/identities?anonymous_id=demo-visitor" -H "Authorization: Bearer $TOKEN"

  # The source's key for its script tag, and the secret its servers sign with
  curl -s "$MANAGEMENT_URL/v1/admin/sources/$SOURCE_ID/keys" -H "Authorization: Bearer $TOKEN"
  curl -s -X POST "$MANAGEMENT_URL/v1/admin/sources/$SOURCE_ID/server-secret/reveal" -H "Authorization: Bearer $TOKEN"

  # The image: 302 to the vendor, 302 back with its ID, GIF
  curl -s -L -o /dev/null -D - "$EDGE_URL/v1/sync/pinterest?pipeline_key=$PIPELINE_KEY&aid=visitor-2"

  # A vendor's ID for a visitor who has left an email, by a call that the core makes
  curl -s "$EDGE_URL/v1/i" -H "Authorization: Bearer $PIPELINE_KEY" -H "Origin: $ALLOWED_ORIGIN" \
    -d '{{"type":"identify","anonymousId":"visitor-2","traits":{{"email":"you@example.com"}}}}'
  curl -s "$EDGE_URL/v1/enrich" -H "Authorization: Bearer $PIPELINE_KEY" -H "Origin: $ALLOWED_ORIGIN" \
    -d '{{"vendor":"liveramp_ats","anonymous_id":"visitor-2"}}'

  # What the page may see of a profile, by cookie or ID
  curl -s "$EDGE_URL/v1/enrich?provider=amperity&aid=demo-shopper-laptop" \
    -H "Authorization: Bearer $PIPELINE_KEY" -H "Origin: $ALLOWED_ORIGIN"

  # Live Events: what is sent of each event, while you look
  curl -s "$MANAGEMENT_URL/v1/admin/sources/$SOURCE_ID/live-events" -H "Authorization: Bearer $TOKEN" >/dev/null
  curl -s "$EDGE_URL/v1/batch" -H "Authorization: Bearer $PIPELINE_KEY" -H "Origin: $ALLOWED_ORIGIN" \
    -d '{{"batch":[{{"type":"track","event":"Order Completed","anonymousId":"visitor-2","properties":{{"order_id":"o-1"}}}}]}}'
  sleep 2; curl -s "$MANAGEMENT_URL/v1/admin/sources/$SOURCE_ID/live-events" -H "Authorization: Bearer $TOKEN"

  # How the destination fares
  curl -s "$MANAGEMENT_URL/v1/admin/sources/$SOURCE_ID/destinations/amperity/status" -H "Authorization: Bearer $TOKEN"

  # Vendor IDs, over gRPC with reflection: grpcurl …
  grpcurl -plaintext -H "authorization: Bearer $SERVICE_TOKEN" "$IDENTITY_ADDR" list
  grpcurl -plaintext -H "authorization: Bearer $SERVICE_TOKEN" \
    -d '{{"org_id":"'$ORG_ID'","identities":[{{"anonymous_id":"visitor-2"}}]}}' \
    "$IDENTITY_ADDR" datafly.identity.v1.ResolveService/VendorIds

  # … or buf
  npx --yes @bufbuild/buf curl --protocol grpc --http2-prior-knowledge \
    -H "authorization: Bearer $SERVICE_TOKEN" --reflect-header "authorization: Bearer $SERVICE_TOKEN" \
    -d '{{"org_id":"'$ORG_ID'","identities":[{{"anonymous_id":"visitor-2"}}]}}' \
    "http://$IDENTITY_ADDR/datafly.identity.v1.ResolveService/VendorIds"

Ctrl-C stops everything."#
        );
    }
}

async fn start_management(cluster: &Cluster, database_url: &str) -> Result<Service> {
    let identity_url = format!("http://{}", cluster.cores[0].addr("grpc"));
    let (addr, jwt_secret) = (preferred(8084)?.to_string(), Uuid::new_v4().simple().to_string());
    let env = [
        ("DATABASE_URL", database_url),
        ("DATAFLY_ENCRYPTION_KEY", &cluster.secrets.encryption_key),
        ("JWT_SECRET", &jwt_secret),
        ("SERVICE_TOKEN", &cluster.secrets.admin_token),
        ("IDENTITY_URL", &identity_url),
        ("LISTEN_ADDR", &addr),
        ("ALLOW_LOOPBACK", "true"),
    ];
    Service::start("management", &env, &["http", "metrics"]).await
}

/// Makes the customer's settings as a customer would, over the management API, and waits until the core has
/// them.
async fn set_up(
    admin: &Admin,
    test_org_id: Uuid,
    cluster: &Cluster,
    vendors: &VendorSim,
    providers: &EnrichSim,
) -> Result<Customer> {
    let domain = "shop.example.com";
    let mut input = json!({"name": "Demo Shop", "domains": [domain]});
    let source = admin.post("/v1/admin/sources", &input).await.expect(201);
    let (source_id, pipeline_id): (Uuid, Uuid) = (id(&source, "id")?, id(&source, "pipeline_id")?);
    let source = format!("/v1/admin/sources/{source_id}");
    let key = async |environment: &str| {
        let answer = admin.post(&format!("{source}/keys"), &json!({"environment": environment})).await;
        answer.expect(201)["key"].as_str().unwrap_or_default().to_owned()
    };
    let (live_key, test_key) = (key("live").await, key("test").await);
    let secret = admin.post(&format!("{source}/server-secret"), &json!({})).await.expect(201);
    let pipeline = format!("/v1/admin/pipelines/{pipeline_id}");
    let rate = json!({"consent_mode": "explicit", "rate_limit_rps": 10_000});
    admin.put(&pipeline, &rate).await.expect(200);
    let customer = Customer {
        org_id: admin.org_id,
        test_org_id,
        source_id,
        pipeline_id,
        live_key,
        test_key,
        server_secret: secret["secret"].as_str().unwrap_or_default().to_owned(),
        origin: format!("https://{domain}"),
        collect_name: "127.0.0.1".to_owned(),
    };
    for vendor in all_vendors() {
        let sync = json!({"partner_id": customer.partner_id(vendor), "endpoint": vendors.endpoint(vendor), "enabled": true});
        admin.put(&format!("{pipeline}/identity-sources/{vendor}"), &sync).await.expect(201);
        cluster.agree(&customer, vendors, vendor);
    }
    enrich_story::set_up(admin, &source, providers).await;
    profile_story::set_up(admin, &source, providers).await;
    delivery_story::set_up(admin, &source).await;
    // Last, and what is waited for: a core that knows it knows the rest as well.
    let hosts = ["127.0.0.1", "localhost"].map(|name| json!({"url": cluster.collect_url_at(name)}));
    input["collect_hosts"] = json!(hosts);
    admin.put(&source, &input).await.expect(200);
    cluster.knows(&customer).await?;
    Ok(customer)
}

fn id(answer: &Value, name: &str) -> Result<Uuid> {
    Ok(answer[name].as_str().unwrap_or_default().parse()?)
}

/// Chooses `port` on loopback, or a free one where it is taken.
fn preferred(port: u16) -> Result<SocketAddr> {
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    Ok(if TcpListener::bind(addr).is_ok() { addr } else { SocketAddr::from(([127, 0, 0, 1], 0)) })
}

//! The control plane of one test: a world, management processes over it, an organisation of its own, and
//! people who call the API as anyone would, over HTTP.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use crate::{
    process::{Service, run},
    world::{Options, World},
};

/// An owner's password: nothing that anyone would guess.
pub const PASSWORD: &str = "tugboat-lantern-38-orchard";

/// A world with a control plane.
#[derive(Debug)]
pub struct Control {
    /// The management processes, which share everything.
    pub management: Vec<Service>,
    /// Secret that the management processes sign tokens with.
    pub jwt_secret: String,
    /// The owner of an organisation without sources.
    pub owner: Admin,
    /// The stores and the core below it, with another organisation that has a source.
    pub world: World,
}

/// A person who calls the API.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Base URL of the management process, `http://127.0.0.1:…`.
    pub url: String,
    /// Organisation of the person.
    pub org_id: Uuid,
    /// Email that the person logs in with.
    pub email: String,
    /// Access token of the person's session; empty until they log in.
    pub access_token: String,
    /// Refresh token of the person's session; empty until they log in.
    pub refresh_token: String,
    client: Client,
}

/// An answer of the API.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code of HTTP.
    pub status: u16,
    /// The version in `ETag`, without quotes.
    pub version: Option<String>,
    /// The delay in `Retry-After`, in seconds.
    pub retry_after: Option<u64>,
    /// The body; null where it is none, or no JSON.
    pub json: Value,
}

impl Answer {
    /// The text of `error.code`, or an empty one.
    pub fn code(&self) -> &str {
        self.json["error"]["code"].as_str().unwrap_or_default()
    }

    /// The fields of `VALIDATION_FAILED`, in order.
    pub fn fields(&self) -> Vec<String> {
        let fields = self.json["error"]["fields"].as_array().into_iter().flatten();
        fields.filter_map(|problem| Some(problem["field"].as_str()?.to_owned())).collect()
    }

    /// Body of the answer, which must have that status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.json);
        self.json
    }

    /// Checks that the call was refused with that status and code.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.code()), (status, code), "{}", self.json);
    }

    /// Text of one field of the body.
    #[track_caller]
    pub fn text(&self, name: &str) -> String {
        self.json[name].as_str().unwrap_or_else(|| panic!("no {name} in {}", self.json)).to_owned()
    }
}

impl Control {
    /// Starts one management process over a world with one core.
    pub async fn start() -> Self {
        Self::with(1, Options::default()).await
    }

    /// Starts so many management processes over a world with other options.
    pub async fn with(processes: usize, options: Options) -> Self {
        let world = World::with(options).await;
        Self::over(processes, world).await.unwrap_or_else(|error| panic!("no control plane: {error:#}"))
    }

    async fn over(processes: usize, world: World) -> Result<Self> {
        let jwt_secret = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let mut management = Vec::new();
        for _ in 0..processes {
            management.push(start_management(&world, &jwt_secret, &[]).await?);
        }
        let addr = management.first().context("no management process")?.addr("http");
        let owner = new_owner(&world.database.url, addr).await?;
        Ok(Self { management, jwt_secret, owner, world })
    }

    /// Makes yet another organisation, and answers with its owner.
    pub async fn another_owner(&self) -> Admin {
        new_owner(&self.world.database.url, self.management[0].addr("http")).await.unwrap()
    }

    /// The person `admin` with their tokens, as a client of another of the processes.
    pub fn at(&self, process: usize, admin: &Admin) -> Admin {
        admin.at(&self.management[process])
    }
}

/// Starts a management process over `world`, behind its proxy of PostgreSQL, with `more` in its environment.
pub async fn start_management(world: &World, jwt_secret: &str, more: &[(&str, &str)]) -> Result<Service> {
    let identity_url = format!("http://{}", world.cluster.cores[0].addr("grpc"));
    let mut database_url = Url::parse(&world.database.url)?;
    database_url.set_port(Some(world.postgres_proxy.addr.port())).ok().context("DATABASE_URL")?;
    let mut env = vec![
        ("DATABASE_URL", database_url.as_str()),
        ("DATAFLY_ENCRYPTION_KEY", &world.cluster.secrets.encryption_key),
        ("JWT_SECRET", jwt_secret),
        ("SERVICE_TOKEN", &world.cluster.secrets.admin_token),
        ("IDENTITY_URL", &identity_url),
        ("TRUSTED_PROXIES", "127.0.0.1"),
        ("ALLOW_LOOPBACK", "true"),
    ];
    env.extend(more);
    Service::start("management", &env, &["http", "metrics"]).await
}

/// Makes an organisation and its owner from the shell, and logs the owner in.
async fn new_owner(database_url: &str, management: SocketAddr) -> Result<Admin> {
    let email = format!("owner-{}@shop.example", &Uuid::new_v4().simple().to_string()[..12]);
    let arguments = ["create-owner", "--email", &email, "--org", "Test Shop"];
    let made = run("management", &arguments, &[("DATABASE_URL", database_url)], PASSWORD).await?;
    ensure!(made.status.success(), "management create-owner: {}", made.text());
    let org_id = String::from_utf8_lossy(&made.stdout).trim().parse().context("create-owner")?;
    let mut admin = Admin::new(format!("http://{management}"), org_id, email)?;
    let answer = admin.log_in(PASSWORD).await;
    ensure!(answer.status == 200, "login: {answer:?}");
    Ok(admin)
}

impl Admin {
    /// Makes a client of the management process at `url` for a person who is not logged in yet.
    pub fn new(url: String, org_id: Uuid, email: String) -> Result<Self> {
        let client = Client::builder().no_proxy().no_gzip().build()?;
        Ok(Self { url, org_id, email, access_token: String::new(), refresh_token: String::new(), client })
    }

    /// A client of the same process that has no token.
    pub fn anyone(&self) -> Self {
        Self { access_token: String::new(), ..self.clone() }
    }

    /// Logs in, and keeps the tokens where that succeeds.
    pub async fn log_in(&mut self, password: &str) -> Answer {
        let credentials = json!({"email": self.email, "password": password});
        let answer = self.anyone().post("/v1/admin/auth/login", &credentials).await;
        if answer.status == 200 {
            self.access_token = answer.text("access_token");
            self.refresh_token = answer.text("refresh_token");
        }
        answer
    }

    /// Renews the tokens, and keeps the new ones where that succeeds.
    pub async fn refresh(&mut self) -> Answer {
        let answer = self.refresh_with(&self.refresh_token).await;
        if answer.status == 200 {
            self.access_token = answer.text("access_token");
            self.refresh_token = answer.text("refresh_token");
        }
        answer
    }

    /// Sends a refresh token, or anything else in its place, and keeps nothing of the answer.
    pub async fn refresh_with(&self, token: &str) -> Answer {
        self.post("/v1/admin/auth/refresh", &json!({ "refresh_token": token })).await
    }

    /// The same person with their tokens at the management process of that URL.
    pub fn at(&self, service: &Service) -> Self {
        Self { url: format!("http://{}", service.addr("http")), ..self.clone() }
    }

    /// The same person with another access token.
    pub fn with_token(&self, access_token: &str) -> Self {
        Self { access_token: access_token.to_owned(), ..self.clone() }
    }

    /// Makes another user of the same organisation who has [`PASSWORD`], and logs them in.
    pub async fn colleague(&self, role: &str) -> Self {
        let email = format!("{role}-{}@shop.example", &Uuid::new_v4().simple().to_string()[..12]);
        let user = json!({"email": email, "name": role, "role": role, "password": PASSWORD});
        self.post("/v1/admin/users", &user).await.expect(201);
        let mut colleague = Self { email, ..self.clone() };
        colleague.log_in(PASSWORD).await.expect(200);
        colleague
    }

    /// Sends a GET without further headers.
    pub async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, None, &[]).await
    }

    /// Sends a POST with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.call(Method::POST, path, Some(body), &[]).await
    }

    /// Sends a PUT with a JSON body.
    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.call(Method::PUT, path, Some(body), &[]).await
    }

    /// Sends a DELETE without a body.
    pub async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, None, &[]).await
    }

    /// Makes a call of any method, with further headers.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = self.client.request(method.clone(), format!("{}{path}", self.url));
        if !self.access_token.is_empty() {
            request = request.bearer_auth(&self.access_token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let header = |name: &str| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let (status, version, retry_after) = (response.status(), header("etag"), header("retry-after"));
        let bytes = response.bytes().await.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        assert_ne!(
            status,
            StatusCode::INTERNAL_SERVER_ERROR,
            "{method} {path}: {}",
            String::from_utf8_lossy(&bytes)
        );
        Answer {
            status: status.as_u16(),
            version: version.map(|tag| tag.trim_matches('"').to_owned()),
            retry_after: retry_after.and_then(|seconds| seconds.parse().ok()),
            json: serde_json::from_slice(&bytes).unwrap_or_default(),
        }
    }
}

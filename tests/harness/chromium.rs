//! A headless Chromium with one page, driven by its DevTools protocol over a pipe.

use std::{fs, process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout},
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use crate::system::{Folder, ServerAccount, program, tied};

/// Time for an answer, or for a page with all its images. Far more than either takes, so that a miss is a failure.
const LIMIT: Duration = Duration::from_secs(60);

/// Place for one browser at a time: each is a dozen processes, and what it shows has deadlines.
static SLOT: Semaphore = Semaphore::const_new(1);

/// Arguments for a browser that asks nobody on the network for anything but its page. The sandbox can't be had as root or
/// in most containers; the pages are our own.
const ARGUMENTS: &[&str] = &[
    "--headless",
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
];

/// A browser that was never used before. It ends when dropped.
#[derive(Debug)]
pub struct Chromium {
    _process: Child,
    requests: ChildStdin,
    messages: BufReader<ChildStdout>,
    /// Number of the last request.
    last: u64,
    /// The page's session; none before there is one.
    session: Option<String>,
    /// Events of the page since they were last taken, each with `method` and `params`.
    events: Vec<Value>,
    _profile: Folder,
    _slot: SemaphorePermit<'static>,
}

impl Chromium {
    /// Starts a browser with a blank page, whose visitor lets third parties keep cookies or doesn't.
    pub async fn start(third_party_cookies: bool) -> Self {
        Self::launch(third_party_cookies).await.unwrap_or_else(|error| panic!("no Chromium: {error:#}"))
    }

    async fn launch(third_party_cookies: bool) -> Result<Self> {
        let slot = SLOT.acquire().await?;
        let chromium = program("chromium").context("`make test` installs it")?;
        let profile = ServerAccount::get()?.folder()?;
        let settings = json!({"profile": {"cookie_controls_mode": if third_party_cookies { 0 } else { 1 }}});
        fs::create_dir(profile.path().join("Default"))?;
        fs::write(profile.path().join("Default/Preferences"), settings.to_string())?;
        // The protocol is spoken over the descriptors 3 and 4.
        let mut command = tied(&program("sh")?, "KILL", []);
        command.args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null", "sh"]).arg(chromium);
        command.args(ARGUMENTS).arg(format!("--user-data-dir={}", profile.path().display()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut process = command.spawn()?;
        let (requests, messages) = process.stdin.take().zip(process.stdout.take()).context("no pipes")?;
        let mut browser = Self {
            _process: process,
            requests,
            messages: BufReader::new(messages),
            last: 0,
            session: None,
            events: Vec::new(),
            _profile: profile,
            _slot: slot,
        };
        let target = browser.ask("Target.createTarget", json!({"url": "about:blank"})).await?;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.ask("Target.attachToTarget", attach).await?;
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Network", "DOM"] {
            browser.call(&format!("{domain}.enable"), json!({})).await;
        }
        Ok(browser)
    }

    /// Calls a method of the page.
    pub async fn call(&mut self, method: &str, params: Value) -> Value {
        self.ask(method, params).await.unwrap_or_else(|error| panic!("{method}: {error:#}"))
    }

    /// Opens a page, and waits until it and all in it are loaded; answers with the events of that time.
    pub async fn open(&mut self, url: &str) -> Vec<Value> {
        self.events.clear();
        let answer = self.call("Page.navigate", json!({"url": url})).await;
        assert_eq!(answer.get("errorText"), None, "{url}");
        let is_loaded = |event: &Value| event["method"] == "Page.loadEventFired";
        while !self.events.iter().any(is_loaded) {
            let message = self.read().await.unwrap_or_else(|error| panic!("{url}: {error:#}"));
            self.events.push(message);
        }
        std::mem::take(&mut self.events)
    }

    /// Runs a script in the page, and answers with what it, or its promise, comes to.
    pub async fn run(&mut self, script: &str) -> Value {
        let params = json!({"expression": script, "awaitPromise": true, "returnByValue": true});
        let answer = self.call("Runtime.evaluate", params).await;
        assert_eq!(answer.get("exceptionDetails"), None, "{script}");
        answer["result"]["value"].clone()
    }

    /// The page's document as HTML, as it is now.
    pub async fn html(&mut self) -> String {
        let document = self.call("DOM.getDocument", json!({"depth": 0})).await;
        let html = self.call("DOM.getOuterHTML", json!({"nodeId": document["root"]["nodeId"]})).await;
        html["outerHTML"].as_str().unwrap_or_else(|| panic!("no HTML in {html}")).to_owned()
    }

    /// All cookies that the browser keeps, each with `domain`, `name` and `value`.
    pub async fn cookies(&mut self) -> Vec<Value> {
        let cookies = self.call("Network.getAllCookies", json!({})).await;
        cookies["cookies"].as_array().unwrap_or_else(|| panic!("no cookies in {cookies}")).clone()
    }

    async fn ask(&mut self, method: &str, params: Value) -> Result<Value> {
        self.last += 1;
        let mut request = json!({"id": self.last, "method": method, "params": params});
        if let Some(session) = &self.session {
            request["sessionId"] = json!(session);
        }
        let mut text = request.to_string().into_bytes();
        text.push(0);
        self.requests.write_all(&text).await?;
        loop {
            let message = self.read().await?;
            if message["id"] == json!(self.last) {
                ensure!(message.get("error").is_none(), "{}", message["error"]);
                return Ok(message["result"].clone());
            }
            self.events.push(message);
        }
    }

    /// The next message, an answer or an event.
    async fn read(&mut self) -> Result<Value> {
        let mut message = Vec::new();
        let read = timeout(LIMIT, self.messages.read_until(0, &mut message)).await;
        ensure!(read.context("no message comes")?? > 0, "the browser has ended");
        message.pop();
        Ok(serde_json::from_slice(&message)?)
    }
}

//! The kind of program behind a User-Agent: what decides on a sync, and what a match rate is told by.

/// Words by which crawlers and previewers of links name themselves, in lower case. Programs that drive a browser for
/// somebody are none: what they see is what a visitor would.
const CRAWLERS: &[&str] = &[
    "adidxbot",
    "adsbot-google",
    "ahrefsbot",
    "amazonbot",
    "applebot",
    "baiduspider",
    "bingbot",
    "bingpreview",
    "bytespider",
    "ccbot",
    "chatgpt-user",
    "chrome-lighthouse",
    "claudebot",
    "discordbot",
    "dotbot",
    "duckduckbot",
    "facebookcatalog",
    "facebookexternalhit",
    "google-inspectiontool",
    "googlebot",
    "googleother",
    "gptbot",
    "linkedinbot",
    "mediapartners-google",
    "meta-externalagent",
    "mj12bot",
    "msnbot",
    "oai-searchbot",
    "perplexitybot",
    "petalbot",
    "pingdom",
    "pinterestbot",
    "redditbot",
    "screaming frog",
    "semrushbot",
    "site24x7",
    "slackbot",
    "snap url preview",
    "statuscake",
    "storebot-google",
    "telegrambot",
    "twitterbot",
    "uptimerobot",
    "yahoo! slurp",
    "yandexbot",
];

/// Words by which apps that show pages in a view of their own name themselves, in lower case. On iOS such a view says
/// nothing of Safari.
const IN_APP: &[&str] = &["; wv)", "bytedancewebview", "fb_iab", "fbav/", "instagram", "micromessenger"];

/// The families of browsers, as the label `browser` of metrics has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Chrome, Edge, Opera, Samsung Internet, and whatever else is built on Chromium.
    Chromium,
    /// Safari, and every browser of iOS, which has WebKit's engine whatever it is called.
    Safari,
    /// Firefox with its own engine.
    Firefox,
    /// A view within an app.
    InApp,
    /// Any other, one that says nothing included.
    Other,
}

impl Family {
    /// Every family that there is.
    pub const ALL: [Self; 5] = [Self::Chromium, Self::Safari, Self::Firefox, Self::InApp, Self::Other];

    /// The value of the label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Chromium => "chromium",
            Self::Safari => "safari",
            Self::Firefox => "firefox",
            Self::InApp => "in_app",
            Self::Other => "other",
        }
    }
}

/// The program that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// A crawler that says so.
    Crawler,
    /// A browser.
    Browser {
        /// The browser's family.
        family: Family,
        /// True where its engine blocks third parties, or keeps a jar of theirs for each site.
        blocks_third_parties: bool,
    },
}

impl Client {
    /// The program that a User-Agent names.
    pub fn of(user_agent: Option<&str>) -> Self {
        let agent = user_agent.map(str::to_ascii_lowercase).unwrap_or_default();
        let has = |word: &str| agent.contains(word);
        let has_any = |words: &[&str]| words.iter().any(|word| has(word));
        if has_any(CRAWLERS) {
            return Self::Crawler;
        }
        let is_ios = has_any(&["iphone", "ipad", "ipod"]);
        let is_chromium = has_any(&["chrome/", "chromium/"]);
        let family = if has_any(IN_APP) || is_ios && !has("safari/") {
            Family::InApp
        } else if is_ios || has("applewebkit/") && !is_chromium && !has("android") {
            Family::Safari
        } else if has("firefox/") {
            Family::Firefox
        } else if is_chromium {
            Family::Chromium
        } else {
            Family::Other
        };
        let is_webkit_or_gecko = matches!(family, Family::Safari | Family::Firefox);
        Self::Browser { family, blocks_third_parties: is_ios || is_webkit_or_gecko || has("ddg/") }
    }

    /// The family that counts for the program.
    pub fn family(self) -> Family {
        match self {
            Self::Crawler => Family::Other,
            Self::Browser { family, .. } => family,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLINK: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/157.0.0.0 Safari/537.36";
    const ANDROID: &str = "Mozilla/5.0 (Linux; Android 9; CUBOT NOTE S";
    const WEBKIT: &str = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/27.2 Safari/605.1.15";
    const IPHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 27_2 like Mac OS X) AppleWebKit/605.1.15";
    const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:160.0) Gecko/20100101 Firefox/160.0";

    #[test]
    fn a_browser_s_family_is_told_and_what_its_engine_blocks() {
        let headless =
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 HeadlessChrome/156.0 Safari/537.36";
        let android_of_before =
            "Mozilla/5.0 (Linux; U; Android 4.0) AppleWebKit/534.30 Version/4.0 Mobile Safari/534.30";
        let cases = [
            (None, Family::Other, false),
            (Some(String::new()), Family::Other, false),
            (Some("curl/8.9".to_owned()), Family::Other, false),
            (Some(BLINK.to_owned()), Family::Chromium, false),
            (Some(format!("{BLINK} Edg/157.0.0.0")), Family::Chromium, false),
            (Some(headless.to_owned()), Family::Chromium, false),
            (
                Some(format!("{ANDROID}) AppleWebKit/537.36 Chrome/157.0 Mobile Safari/537.36")),
                Family::Chromium,
                false,
            ),
            (
                Some(format!("{ANDROID}; wv) AppleWebKit/537.36 Chrome/157.0 Mobile Safari/537.36")),
                Family::InApp,
                false,
            ),
            (
                Some(format!("{ANDROID}) Chrome/157.0 Mobile Safari/537.36 [FB_IAB/FB4A;FBAV/500.0]")),
                Family::InApp,
                false,
            ),
            (Some(format!("{ANDROID}) Chrome/157.0 Mobile DDG/157.0 Safari/537.36")), Family::Chromium, true),
            (Some(android_of_before.to_owned()), Family::Other, false),
            (Some(WEBKIT.to_owned()), Family::Safari, true),
            (Some(format!("{IPHONE} CriOS/157.0 Mobile Safari/604.1")), Family::Safari, true),
            (Some(format!("{IPHONE} FxiOS/160.0 Mobile Safari/605.1.15")), Family::Safari, true),
            (Some(format!("{IPHONE} Mobile/15E148 Instagram 380.0")), Family::InApp, true),
            (Some(format!("{IPHONE} Mobile/15E148")), Family::InApp, true),
            (Some(FIREFOX.to_owned()), Family::Firefox, true),
        ];
        for (agent, family, blocks_third_parties) in cases {
            let client = Client::Browser { family, blocks_third_parties };
            assert_eq!(Client::of(agent.as_deref()), client, "{agent:?}");
        }
    }

    #[test]
    fn a_crawler_that_says_so_is_none() {
        let google = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";
        for agent in [google, &*format!("{BLINK} (compatible; bingbot/2.0)"), "facebookexternalhit/1.1"] {
            assert_eq!(Client::of(Some(agent)), Client::Crawler, "{agent}");
        }
    }

    #[test]
    fn words_are_listed_as_they_are_compared() {
        for words in [CRAWLERS, IN_APP] {
            assert!(words.is_sorted() && words.iter().all(|word| *word == word.to_lowercase()));
        }
    }
}

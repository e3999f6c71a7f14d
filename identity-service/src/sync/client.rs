//! The kind of program behind a User-Agent, as far as it decides on a sync.

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

/// The kind of program that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// A crawler that says so.
    Crawler,
    /// A browser whose engine blocks third parties, or keeps a jar of theirs for each site.
    BlocksThirdParties,
    /// Any other, one that says nothing included.
    Other,
}

impl Client {
    /// The kind that a User-Agent names.
    pub fn of(user_agent: Option<&str>) -> Self {
        let Some(agent) = user_agent.map(str::to_ascii_lowercase) else { return Self::Other };
        let has = |word: &str| agent.contains(word);
        let has_any = |words: &[&str]| words.iter().any(|word| has(word));
        if has_any(CRAWLERS) {
            return Self::Crawler;
        }
        // Every browser of iOS is WebKit, whatever it is called.
        let is_ios = has_any(&["iphone", "ipad", "ipod"]);
        let is_safari = has("applewebkit/") && !has_any(&["chrome/", "chromium/", "android"]);
        let blocks = is_ios || is_safari || has_any(&["firefox/", "ddg/"]);
        if blocks { Self::BlocksThirdParties } else { Self::Other }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_agent_s_kind_is_told() {
        let blink = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/157.0.0.0 Safari/537.36";
        let webkit = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/27.2 Safari/605.1.15";
        let kinds = [
            (None, Client::Other),
            (Some(""), Client::Other),
            (Some(blink), Client::Other),
            (Some(&*format!("{blink} Edg/157.0.0.0")), Client::Other),
            (
                Some(
                    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/156.0 Safari/537.36",
                ),
                Client::Other,
            ),
            (
                Some(
                    "Mozilla/5.0 (Linux; Android 9; CUBOT NOTE S) AppleWebKit/537.36 Chrome/157.0 Mobile Safari/537.36",
                ),
                Client::Other,
            ),
            (
                Some(
                    "Mozilla/5.0 (Linux; U; Android 4.0) AppleWebKit/534.30 Version/4.0 Mobile Safari/534.30",
                ),
                Client::Other,
            ),
            (Some(webkit), Client::BlocksThirdParties),
            (
                Some(
                    "Mozilla/5.0 (iPhone; CPU iPhone OS 27_2 like Mac OS X) AppleWebKit/605.1.15 CriOS/157.0 Mobile Safari/604.1",
                ),
                Client::BlocksThirdParties,
            ),
            (
                Some("Mozilla/5.0 (X11; Linux x86_64; rv:160.0) Gecko/20100101 Firefox/160.0"),
                Client::BlocksThirdParties,
            ),
            (
                Some("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"),
                Client::Crawler,
            ),
            (Some(&*format!("{blink} (compatible; bingbot/2.0)")), Client::Crawler),
            (Some("facebookexternalhit/1.1"), Client::Crawler),
        ];
        for (agent, kind) in kinds {
            assert_eq!(Client::of(agent), kind, "{agent:?}");
        }
    }

    #[test]
    fn crawlers_are_listed_as_they_are_compared() {
        assert!(CRAWLERS.is_sorted() && CRAWLERS.iter().all(|word| *word == word.to_lowercase()));
    }
}

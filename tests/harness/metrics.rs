//! Reading Prometheus' text format.

use std::net::SocketAddr;

/// Metrics of one scrape, as text.
#[derive(Debug, Clone)]
pub struct Metrics(String);

impl Metrics {
    /// Scrapes a metrics listener.
    pub async fn fetch(addr: SocketAddr) -> Self {
        let answer = reqwest::get(format!("http://{addr}/metrics")).await.unwrap();
        assert_eq!(answer.status(), 200, "GET /metrics of {addr}");
        Self(answer.text().await.unwrap())
    }

    /// The sum of a metric's samples that have all of these labels; 0 where there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let samples = self.0.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let (series, value) = rest.rsplit_once(' ')?;
            let exact = series.is_empty() || series.starts_with('{');
            let labelled = labels.iter().all(|(key, value)| series.contains(&format!("{key}=\"{value}\"")));
            value.parse::<f64>().ok().filter(|_| exact && labelled)
        });
        samples.sum()
    }

    /// The text as scraped.
    pub fn text(&self) -> &str {
        &self.0
    }
}

//! What a test expects of the edge's answers.

use serde_json::json;

use crate::browser::Answer;

/// A batch's answer that took `accepted` events and found no fault.
#[track_caller]
pub fn assert_accepted(answer: &Answer, accepted: usize) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["success"], json!(true), "{body}");
    assert_eq!(body["accepted"], json!(accepted), "{body}");
    assert_eq!(body["errors"], json!([]), "{body}");
}

/// A batch's answer whose only event is to be sent again.
#[track_caller]
pub fn assert_retry(answer: &Answer) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["accepted"], json!(0), "{body}");
    assert_eq!(body["errors"][0]["retry"], json!(true), "{body}");
}

/// The last hop of a sync is the GIF.
#[track_caller]
pub fn assert_gif(answer: &Answer) {
    assert!(answer.is_gif(), "{} answered {} {:?}", answer.url, answer.status, answer.headers);
}

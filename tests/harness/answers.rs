//! Checks of the edge's answers that many tests make.

use serde_json::json;

use crate::browser::Answer;

/// Checks that a batch's answer took `accepted` events and found no fault.
#[track_caller]
pub fn assert_accepted(answer: &Answer, accepted: usize) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["success"], json!(true), "{body}");
    assert_eq!(body["accepted"], json!(accepted), "{body}");
    assert_eq!(body["errors"], json!([]), "{body}");
}

/// Checks that a batch's answer took nothing, and tells the client to send its first faulty event again.
#[track_caller]
pub fn assert_retry(answer: &Answer) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["accepted"], json!(0), "{body}");
    assert_eq!(body["errors"][0]["retry"], json!(true), "{body}");
}

/// Checks that an answer, such as the last hop of a sync, is the GIF.
#[track_caller]
pub fn assert_gif(answer: &Answer) {
    assert!(answer.is_gif(), "{} answered {} {:?}", answer.url, answer.status, answer.headers);
}

//! JSONPath queries (RFC 9535) that denote one value.

use serde_json_path::JsonPath;

/// Longest query, in bytes.
const MAX: usize = 256;

/// A singular query: names and indices alone, so that it yields one value or none.
pub fn singular(text: &str) -> Result<JsonPath, &'static str> {
    // The parser tries each of nested filters anew for the one around it, which for 256 bytes takes for ever.
    let path = if text.len() <= MAX && !has_filter(text) { JsonPath::parse(text).ok() } else { None };
    // The grammar has only singular queries be compared, which spares a grammar of our own.
    let singular = path.filter(|_| JsonPath::parse(&format!("$[?{text}==0]")).is_ok());
    singular.ok_or("must be a JSONPath that denotes one value, such as $.user.id")
}

/// True where a question mark, with which filters begin, stands outside of quotes.
fn has_filter(text: &str) -> bool {
    let (mut quote, mut chars) = (None, text.chars());
    while let Some(c) = chars.next() {
        match quote {
            None if c == '?' => return true,
            None if matches!(c, '\'' | '"') => quote = Some(c),
            Some(_) if c == '\\' => drop(chars.next()),
            Some(own) if c == own => quote = None,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_value_or_none() {
        let answer = json!({"id": "a", "list": [{"b c": "d"}], "": 1, "ä": 2, "?": 3, "'\"?": 4});
        for (path, value) in [
            ("$.id", Some(json!("a"))),
            ("$['list'][0]['b c']", Some(json!("d"))),
            ("$[\"list\"][-1]['b c']", Some(json!("d"))),
            ("$['']", Some(json!(1))),
            ("$.ä", Some(json!(2))),
            ("$['?']", Some(json!(3))),
            ("$['\\'\"?']", Some(json!(4))),
            ("$.absent", None),
            ("$", Some(answer.clone())),
        ] {
            let found = singular(path).unwrap_or_else(|why| panic!("{path}: {why}"));
            assert_eq!(found.query(&answer).at_most_one().unwrap(), value.as_ref(), "{path}");
        }
    }

    #[test]
    fn what_may_be_several_or_is_no_query() {
        for bad in [
            "",
            "id",
            ".id",
            "@.id",
            "$.",
            "$.*",
            "$..id",
            "$[*]",
            "$[0,1]",
            "$[0:2]",
            "$[?@.a]",
            "$['a','b']",
            "$.a==0||$.b",
            "$.a == 0 || $.b",
            "$.a]",
            "$[",
            "$.id ",
            " $.id",
            "$.a b",
            "{{anonymous_id}}",
            "$[9007199254740992]",
            "$[01]",
            "$.length()",
        ] {
            assert!(singular(bad).is_err(), "{bad}");
        }
        // Read by the parser it would take longer than anybody waits.
        assert!(singular(&format!("${}", "[?@.a".repeat(50))).is_err());
        assert!(singular(&format!("${}", "[0]".repeat(85))).is_ok());
        assert!(singular(&format!("${}", "[0]".repeat(86))).is_err());
        assert!(singular(&format!("$[?{}", "(".repeat(100_000))).is_err());
    }
}

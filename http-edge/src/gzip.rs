//! Unpacking of bodies that come with `Content-Encoding: gzip`, the default of several SDKs.

use std::io::Read;

use flate2::bufread::MultiGzDecoder;
use http::{HeaderMap, HeaderValue, header};
use proto::v1::ErrorReason;

use crate::{error::ApiError, memory::HeldMemory};

/// Bytes that are unpacked at a time, and taken of the memory before they are kept.
const CHUNK_BYTES: usize = 16 * 1024;

/// True where a body with `headers` is packed; an error where it is so by another coding, or more than once.
pub fn is_packed(headers: &HeaderMap) -> Result<bool, ApiError> {
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter().map(HeaderValue::as_bytes);
    match (codings.next(), codings.next()) {
        (None, _) => Ok(false),
        (Some(coding), None) if coding.eq_ignore_ascii_case(b"identity") => Ok(false),
        // RFC 9110, 8.4.1.3: both names are the same coding.
        (Some(coding), None)
            if [&b"gzip"[..], b"x-gzip"].iter().any(|name| coding.eq_ignore_ascii_case(name)) =>
        {
            Ok(true)
        }
        _ => Err(ErrorReason::UnsupportedEncoding.into()),
    }
}

/// Unpacks `packed`, all members of it, into at most `max_bytes`, and takes them of `memory` as they come. It is there
/// whole, so that no unpacker waits for a slow sender.
pub fn unpack(packed: &[u8], max_bytes: usize, memory: &mut HeldMemory) -> Result<Vec<u8>, ApiError> {
    let mut decoder = MultiGzDecoder::new(packed);
    let (mut bytes, mut chunk) = (Vec::new(), [0; CHUNK_BYTES]);
    loop {
        let read = decoder.read(&mut chunk).map_err(|_| ApiError::from(ErrorReason::InvalidJson))?;
        let data = chunk.get(..read).unwrap_or_default();
        if data.is_empty() {
            return Ok(bytes);
        }
        if bytes.len() + data.len() > max_bytes {
            return Err(ErrorReason::PayloadTooLarge.into());
        }
        memory.grow(u32::try_from(data.len()).unwrap_or(u32::MAX))?;
        bytes.extend_from_slice(data);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;
    use crate::memory::{Holder, Memory};

    const HOLDER: Holder = Holder { subscriber: None, key: 0 };
    const MAX_BYTES: usize = 100_000;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn unpacked(bytes: &[u8]) -> Result<Vec<u8>, ErrorReason> {
        let (memory, size) = (Memory::of(1_000_000), bytes.len());
        let mut held = memory.hold(HOLDER);
        let unpacked = unpack(bytes, MAX_BYTES, &mut held).map_err(|error| error.reason());
        if let Ok(unpacked) = &unpacked {
            assert_eq!(usize::try_from(memory.held()).unwrap(), unpacked.len(), "of {size}");
        }
        unpacked
    }

    #[test]
    fn what_is_unpacked_is_bounded_with_all_members_together() {
        assert_eq!(unpacked(&packed(b"{}")), Ok(b"{}".to_vec()));
        let half = packed(&vec![b' '; MAX_BYTES / 2]);
        assert!(half.len() < 1000);
        assert_eq!(unpacked(&half.repeat(2)).map(|bytes| bytes.len()), Ok(MAX_BYTES));
        assert_eq!(unpacked(&[half.repeat(2), packed(b" ")].concat()), Err(ErrorReason::PayloadTooLarge));
        assert_eq!(unpacked(&packed(&vec![b' '; 100 * MAX_BYTES])), Err(ErrorReason::PayloadTooLarge));
        assert_eq!(unpacked(&packed(b"").repeat(10_000)), Ok(Vec::new()));
        let mut held = Memory::of(20_000).hold(HOLDER);
        let refused = unpack(&half, MAX_BYTES, &mut held).unwrap_err();
        assert_eq!(refused.reason(), ErrorReason::Overloaded);
    }

    #[test]
    fn what_is_broken_is_refused() {
        let good = packed(br#"{"batch":[{"anonymousId":"a"}]}"#);
        let mut wrong_sum = good.clone();
        let at = wrong_sum.len() - 5;
        wrong_sum[at] ^= 1;
        let cut = |bytes: usize| good[..bytes].to_vec();
        for broken in [
            Vec::new(),
            b"{}".to_vec(),
            cut(5),
            cut(good.len() / 2),
            cut(good.len() - 1),
            wrong_sum,
            [&good[..], b"{}"].concat(),
            [&good[..], &[0; 8]].concat(),
        ] {
            assert_eq!(unpacked(&broken), Err(ErrorReason::InvalidJson), "{broken:?}");
        }
    }

    #[test]
    fn one_coding_is_taken() {
        let packed = |codings: &[&str]| {
            let fields = codings.iter().map(|coding| (header::CONTENT_ENCODING, coding.parse().unwrap()));
            is_packed(&fields.collect()).map_err(|error| error.reason())
        };
        for (codings, expected) in [
            (&[][..], false),
            (&["identity"], false),
            (&["gzip"], true),
            (&["GZip"], true),
            (&["x-gzip"], true),
        ] {
            assert_eq!(packed(codings), Ok(expected), "{codings:?}");
        }
        for codings in [
            &["deflate"][..],
            &["br"],
            &["zstd"],
            &[""],
            &["gzip, gzip"],
            &["gzip, identity"],
            &["gzip", "gzip"],
            &["gzip", "identity"],
        ] {
            assert_eq!(packed(codings), Err(ErrorReason::UnsupportedEncoding), "{codings:?}");
        }
    }
}

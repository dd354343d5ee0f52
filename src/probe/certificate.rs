//! The certificate that the server has shown: when it ends.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio_rustls::client::TlsStream;
use x509_parser::certificate::X509CertificateParser;
use x509_parser::nom::Parser;

/// `notAfter` of the server's own certificate, the first of its chain.
pub(super) fn not_after<S>(stream: &TlsStream<S>) -> Option<SystemTime> {
    let (_, session) = stream.get_ref();
    end_of(session.peer_certificates()?.first()?)
}

/// `None` for what is no certificate, and for times before 1970, which TLS does not accept anyway.
fn end_of(der: &[u8]) -> Option<SystemTime> {
    // Extensions are most of a certificate, and none of them is asked about.
    let mut parser = X509CertificateParser::new().with_deep_parse_extensions(false);
    let (_, certificate) = parser.parse(der).ok()?;
    let seconds = certificate.validity().not_after.timestamp();
    Some(UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_read_to_the_second_in_both_ways_of_writing_it() {
        // Until 2049 a certificate writes two digits of the year, from 2050 on four.
        for (year, seconds) in [(2049, 2_493_072_000), (2050, 2_524_608_000)] {
            let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap();
            let end = UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(end_of(certificate.der()), Some(end), "{year}");
        }
        assert_eq!(end_of(b"no certificate"), None);
    }
}

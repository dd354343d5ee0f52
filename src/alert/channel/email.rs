//! Mail by SMTP: plain text and HTML, one thread for each incident.

use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message as Mail, Tokio1Executor};
use percent_encoding::percent_decode_str;
use url::Url;

use super::{Failure, html};
use crate::alert::message::Message;
use crate::alert::text::{Story, plain, story};
use crate::model::{EmailSettings, NoticeEvent, SmtpTls};

/// Sequence of an opening: every other mail of an incident answers it.
const OPENING: u32 = 1;

/// A fresh connection for each mail: servers drop idle ones, and then a notice would fail first.
pub(super) async fn send(settings: &EmailSettings, message: &Message) -> Result<(), Failure> {
    let mail = mail(settings, message).map_err(Failure::lasting)?;
    let transport = transport(settings).map_err(Failure::lasting)?;
    match transport.send(mail).await {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure {
            is_lasting: error.is_permanent() || error.is_client(),
            ..Failure::new(name(settings)).said(words(&error))
        }),
    }
}

fn transport(settings: &EmailSettings) -> Result<AsyncSmtpTransport<Tokio1Executor>, String> {
    let url = Url::parse(settings.smtp.expose()).map_err(|error| format!("`smtp`: {error}"))?;
    let host = host(&url).ok_or("`smtp` names no host")?;
    let port = match settings.tls {
        SmtpTls::Implicit => 465,
        SmtpTls::Required => 587,
        SmtpTls::Off => 25,
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&host)
        .port(url.port().unwrap_or(port))
        // The channel's own timeout is around all of it.
        .timeout(None);
    builder = match settings.tls {
        SmtpTls::Off => builder.tls(Tls::None),
        SmtpTls::Required => builder.tls(Tls::Required(parameters(settings, host)?)),
        SmtpTls::Implicit => builder.tls(Tls::Wrapper(parameters(settings, host)?)),
    };
    if !url.username().is_empty() {
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let password = decoded(url.password().unwrap_or_default());
        builder = builder.credentials(Credentials::new(decoded(url.username()), password));
    }
    Ok(builder.build())
}

/// Without the brackets of an IPv6 address, which belong to URLs.
fn host(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    Some(host.trim_matches(['[', ']']).to_owned())
}

fn parameters(settings: &EmailSettings, host: String) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(host);
    if let Some(authorities) = &settings.authorities {
        builder = builder.certificate_store(CertificateStore::None);
        for certificate in authorities.to_certificates()? {
            let certificate = Certificate::from_der(certificate.to_vec())
                .map_err(|error| format!("`ca_file`: {error}"))?;
            builder = builder.add_root_certificate(certificate);
        }
    }
    builder.build().map_err(|error| format!("no TLS: {error}"))
}

/// The server's host, never with the password.
fn name(settings: &EmailSettings) -> String {
    let url = Url::parse(settings.smtp.expose()).ok();
    url.and_then(|url| host(&url)).unwrap_or_default()
}

fn words(error: &lettre::transport::smtp::Error) -> String {
    let mut words = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        let inner_words = inner.to_string();
        if !words.contains(&inner_words) {
            words.push_str(": ");
            words.push_str(&inner_words);
        }
        source = inner.source();
    }
    words
}

fn mail(settings: &EmailSettings, message: &Message) -> Result<Mail, String> {
    let from: Mailbox = settings
        .from
        .parse()
        .map_err(|error| format!("`from`: {error}"))?;
    let domain = from.email.domain().to_owned();
    let id = |key: &str| format!("<{key}@{domain}>");
    let story = story(message);
    let mut builder = Mail::builder()
        .message_id(Some(id(&message.key())))
        .date(message.first.created_at)
        .subject(story.subject.clone())
        .from(from)
        .raw_header(header("Auto-Submitted", "auto-generated"))
        // Answers of machines ("I am on holiday") to a machine help nobody.
        .raw_header(header("X-Auto-Response-Suppress", "All"));
    for to in &settings.to {
        builder = builder.to(to.parse().map_err(|error| format!("`to`: {error}"))?);
    }
    // A mail about several incidents belongs to the threads of all of them.
    let openings: Vec<_> = message
        .notices()
        .map(|notice| {
            let mut opening = notice.clone();
            opening.sequence = OPENING;
            id(&opening.key())
        })
        .filter(|opening| *opening != id(&message.key()))
        .collect();
    if message.first.event != NoticeEvent::Opened
        && let Some(opening) = openings.first()
    {
        builder = builder.in_reply_to(opening.clone());
    }
    if !openings.is_empty() {
        builder = builder.references(openings.join(" "));
    }
    builder
        .multipart(MultiPart::alternative_plain_html(
            plain(&story),
            page(&story),
        ))
        .map_err(|error| error.to_string())
}

fn header(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}

/// The HTML part: everything that mail programs understand, nothing that they would have to load.
fn page(story: &Story) -> String {
    let mut page = format!(
        "<!DOCTYPE html><html><head><meta charset=\"utf-8\"></head>\
         <body style=\"font-family:sans-serif\">\
         <div style=\"border-left:6px solid #{:06x};padding-left:12px\">\
         <p><strong>{}</strong></p>",
        story.tone.colour(),
        html(&story.lead)
    );
    if !story.lines.is_empty() {
        page.push_str("<ul>");
        for line in &story.lines {
            page.push_str(&format!("<li>{}</li>", html(line)));
        }
        page.push_str("</ul>");
    }
    if !story.facts.is_empty() {
        page.push_str("<table cellpadding=\"3\">");
        for fact in &story.facts {
            let value = html(&fact.value);
            let value = if fact.is_code {
                format!("<code>{value}</code>")
            } else {
                value
            };
            page.push_str(&format!(
                "<tr><td style=\"color:#666;vertical-align:top\">{}</td><td>{value}</td></tr>",
                fact.name
            ));
        }
        page.push_str("</table>");
    }
    for link in &story.links {
        page.push_str(&format!(
            "<p><a href=\"{}\">{}</a></p>",
            html(&link.url),
            html(&link.name)
        ));
    }
    page.push_str("</div></body></html>");
    page
}

//! The heartbeat out: somebody else is told that probes really finish, and notices when that ends.

use std::time::Duration;

use reqwest::redirect::Policy;
use tokio::time::{Instant, MissedTickBehavior};
use url::Url;

use super::progress::{Progress, Watcher};
use crate::model::Heartbeat;

/// For one ping; it has to be over before the next one, which is 10 s later at the earliest.
const PING_TIMEOUT: Duration = Duration::from_secs(8);

/// Pings for ever, as long as probes go on; what goes wrong is told once, until a ping has arrived again.
pub async fn beat(
    heartbeat: &Heartbeat,
    progress: &Progress,
    warn: impl Fn(&str),
    arrived: impl Fn(),
) {
    let client = match client() {
        Ok(client) => client,
        Err(error) => {
            warn(&format!("no heartbeat can be sent: {error}"));
            return std::future::pending().await;
        }
    };
    let mut tick = tokio::time::interval(heartbeat.every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watcher = Watcher::default();
    let mut is_warned = false;
    loop {
        tick.tick().await;
        // Before the first result nobody can say that probes finish.
        if !watcher.looks_well(progress, Instant::now()) || progress.count() == 0 {
            continue;
        }
        match ping(&client, heartbeat).await {
            Ok(()) => {
                is_warned = false;
                arrived();
            }
            Err(why) if !is_warned => {
                warn(&format!(
                    "the heartbeat does not arrive at {}: {why}",
                    origin(heartbeat)
                ));
                is_warned = true;
            }
            Err(_) => {}
        }
    }
}

/// One ping, after a single round.
pub async fn beat_once(heartbeat: &Heartbeat, warn: impl Fn(&str)) {
    let sent = match client() {
        Ok(client) => ping(&client, heartbeat).await,
        Err(error) => Err(error.to_string()),
    };
    if let Err(why) = sent {
        let to = origin(heartbeat);
        warn(&format!("the heartbeat does not arrive at {to}: {why}"));
    }
}

fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .timeout(PING_TIMEOUT)
        // The address is a secret: it goes to the named receiver only.
        .redirect(Policy::none())
        .build()
}

/// # Errors
/// Why it has not arrived, without the address.
async fn ping(client: &reqwest::Client, heartbeat: &Heartbeat) -> Result<(), String> {
    let answer = client
        .get(heartbeat.url.expose())
        .header(
            reqwest::header::USER_AGENT,
            concat!("mcpprobe/", env!("CARGO_PKG_VERSION")),
        )
        .send()
        .await
        .map_err(|error| cause(error.without_url()))?;
    if answer.status().is_success() {
        Ok(())
    } else {
        Err(format!("HTTP {}", answer.status()))
    }
}

/// The innermost cause is the one that says something.
fn cause(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return format!(
            "no answer within {}",
            humantime::format_duration(PING_TIMEOUT)
        );
    }
    let mut innermost: &dyn std::error::Error = &error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// What may be shown of the address: everything behind the host is, or may be, the key.
fn origin(heartbeat: &Heartbeat) -> String {
    Url::parse(heartbeat.url.expose())
        .map(|url| url.origin().ascii_serialization())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::http::StatusCode;
    use axum::http::Uri;
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;
    use crate::model::Secret;

    /// A receiver that answers with the statuses in turn, the last one for ever; each path that was asked for is sent.
    async fn receiver(statuses: &[StatusCode]) -> (String, mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, asked) = mpsc::channel(64);
        let mut statuses = statuses.to_vec();
        statuses.reverse();
        let statuses = Arc::new(Mutex::new(statuses));
        let answer = move |uri: Uri| async move {
            sender.send(uri.to_string()).await.ok();
            let mut statuses = statuses.lock().unwrap();
            let status = *statuses.last().unwrap();
            if statuses.len() > 1 {
                statuses.pop();
            }
            status
        };
        let app = axum::Router::new().fallback(answer);
        tokio::spawn(async move { axum::serve(listener, app).await });
        (format!("http://{address}/ping/s3cret-key?k=s3cret"), asked)
    }

    fn heartbeat(url: &str) -> Heartbeat {
        Heartbeat {
            url: Secret::new(url),
            every: Duration::from_millis(5),
        }
    }

    /// Finishes probes while `heartbeat` is sent, until `done` is.
    async fn beat_until(
        url: &str,
        progress: &Progress,
        done: impl Future<Output = ()>,
    ) -> Vec<String> {
        crate::install_tls_provider();
        let warnings = Mutex::new(Vec::new());
        let heartbeat = heartbeat(url);
        let beating = beat(
            &heartbeat,
            progress,
            |text: &str| {
                warnings.lock().unwrap().push(text.to_owned());
            },
            || (),
        );
        tokio::select! {
            () = beating => {}
            () = done => {}
        }
        warnings.into_inner().unwrap()
    }

    async fn probes(progress: &Progress) {
        loop {
            progress.finished(Instant::now());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn pings_arrive_while_probes_finish() {
        let (url, mut asked) = receiver(&[StatusCode::OK]).await;
        let progress = Progress::default();
        let done = async {
            tokio::select! {
                () = probes(&progress) => {}
                () = async {
                    for _ in 0..3 {
                        assert_eq!(asked.recv().await.unwrap(), "/ping/s3cret-key?k=s3cret");
                    }
                } => {}
            }
        };
        assert!(beat_until(&url, &progress, done).await.is_empty());
    }

    #[tokio::test]
    async fn nothing_is_pinged_before_the_first_probe_and_when_one_hangs() {
        let (url, mut asked) = receiver(&[StatusCode::OK]).await;
        let progress = Progress::default();
        let done = async {
            // Idle, but nothing has ever finished.
            progress.waits_until(None);
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert!(asked.try_recv().is_err());
            progress.finished(Instant::now());
            asked.recv().await.unwrap();
            while asked.try_recv().is_ok() {}
            // Overdue by far.
            progress.begun(Duration::ZERO, Instant::now() - Duration::from_secs(600));
            tokio::time::sleep(Duration::from_millis(100)).await;
            // One may have been on its way; twenty would have been due since.
            let late = std::iter::from_fn(|| asked.try_recv().ok()).count();
            assert!(late <= 1, "{late} pings");
        };
        beat_until(&url, &progress, done).await;
    }

    #[tokio::test]
    async fn what_goes_wrong_is_told_once_until_it_is_right_again_and_holds_no_secret() {
        let (bad, moved) = (StatusCode::NOT_FOUND, StatusCode::FOUND);
        let (url, mut asked) = receiver(&[bad, bad, bad, StatusCode::OK, moved, bad]).await;
        let progress = Progress::default();
        let done = async {
            tokio::select! {
                () = probes(&progress) => {}
                () = async {
                    for _ in 0..8 {
                        asked.recv().await.unwrap();
                    }
                } => {}
            }
        };
        let warnings = beat_until(&url, &progress, done).await;
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].contains("404"), "{warnings:?}");
        assert!(warnings[1].contains("302"), "{warnings:?}");
        assert!(!warnings.concat().contains("s3cret"), "{warnings:?}");
    }

    #[tokio::test]
    async fn a_receiver_that_is_not_there_is_told_without_its_address() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/s3cret", listener.local_addr().unwrap());
        drop(listener);
        crate::install_tls_provider();
        let progress = Progress::default();
        progress.finished(Instant::now());
        let (sender, mut told) = mpsc::channel(8);
        let heartbeat = heartbeat(&url);
        let beating = beat(
            &heartbeat,
            &progress,
            |text: &str| {
                sender.try_send(text.to_owned()).ok();
            },
            || (),
        );
        let warning = tokio::select! {
            () = beating => None,
            warning = told.recv() => warning,
        };
        let warning = warning.unwrap();
        assert!(
            warning.contains("127.0.0.1") && warning.contains("refused"),
            "{warning}"
        );
        assert!(!warning.contains("s3cret"), "{warning}");
    }
}

//! A running outbox with the channels of a configuration, and what it tells.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mcpprobe::alert::{Backlog, Outbox};
use mcpprobe::model::{ChannelSettings, Delivery, DeliveryOutcome, Notice, Pending};
use tokio::sync::mpsc;

use crate::support::PATIENCE;

/// The channels of a text of TOML.
pub(super) fn channels(text: &str, folder: &Path) -> Vec<ChannelSettings> {
    let env = |name: &str| (name == "SECRET").then(|| "s3cret-of-the-environment".to_owned());
    match mcpprobe::config::parse(text, "servers.toml", folder, &env, SystemTime::now()) {
        Ok(loaded) => loaded.config.alerting.channels,
        Err(complaints) => panic!("{complaints}"),
    }
}

pub(super) struct Bench {
    pub(super) outbox: Outbox,
    deliveries: mpsc::Receiver<Delivery>,
}

impl Bench {
    /// Nothing waits from before, and nothing is kept.
    pub(super) fn start(text: &str) -> Self {
        let channels = channels(text, Path::new("/tmp"));
        Self::with(channels, Vec::new(), Arc::new(|_, _| Ok(Vec::new())))
    }

    pub(super) fn with(
        channels: Vec<ChannelSettings>,
        pending: Vec<Pending>,
        backlog: Backlog,
    ) -> Self {
        mcpprobe::install_tls_provider();
        let (sender, deliveries) = mpsc::channel(16);
        let outbox = Outbox::start(channels, pending, backlog, sender).unwrap();
        Self { outbox, deliveries }
    }

    pub(super) fn send(&self, notice: Notice) {
        assert!(self.outbox.sender().send(notice));
    }

    /// The next thing that is told.
    pub(super) async fn told(&mut self) -> Delivery {
        tokio::time::timeout(PATIENCE, self.deliveries.recv())
            .await
            .expect("nothing was told")
            .expect("the outbox has ended")
    }

    /// Everything up to the next delivery, or giving up: the failures' words, and the last word.
    pub(super) async fn settled(&mut self) -> (Vec<String>, Delivery) {
        let mut failures = Vec::new();
        loop {
            let delivery = self.told().await;
            match &delivery.outcome {
                DeliveryOutcome::Failed(why) => failures.push(why.to_string()),
                _ => return (failures, delivery),
            }
        }
    }

    pub(super) async fn delivered(&mut self) -> Delivery {
        let (failures, delivery) = self.settled().await;
        assert_eq!(delivery.outcome, DeliveryOutcome::Delivered, "{failures:?}");
        delivery
    }
}

/// A runtime as the program has it.
pub(super) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test);
    runtime.shutdown_timeout(Duration::from_millis(10));
}

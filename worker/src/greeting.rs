//! How a session begins: what this node says of itself, and what it takes from the
//! coordinator's answer.
//!
//! Invariant: as long as the process lives, it has one incarnation and one model.

use std::time::Duration;

use link::{Me, Switchboard, Way};
use proto::{
    VERSIONS,
    control::{self, wire},
    data::End,
};
use types::{Incarnation, ModelDigest};
use wire::from_worker::Kind as Said;

use crate::{
    service::Worker,
    session::{Ended, said},
};

/// Bytes of a message between nodes: a chunk of pictures at 1080p has 75 MB.
const PAYLOAD_BYTES_MAX: usize = 256 << 20;

impl Worker {
    /// What it says of itself.
    pub(crate) fn hello(&self) -> wire::FromWorker {
        let config = &self.config;
        let held = self.shared.read().progress.into_iter();
        let held = held.map(|(fence, _)| fence.into());
        let limits = &config.limits;
        said(Said::Hello(wire::Hello {
            versions: Some(wire::Versions { oldest: *VERSIONS.start(), newest: *VERSIONS.end() }),
            node: control::node_bytes(self.node),
            boot: self.boot.to_be_bytes().to_vec(),
            name: config.name.clone(),
            software: concat!("filmloom ", env!("CARGO_PKG_VERSION")).to_owned(),
            device: config.device.clone(),
            threads: config.threads,
            classes: vec![self.class.name().to_owned()],
            memory_bytes: config.memory_bytes,
            limits: Some(wire::Limits {
                layers: limits.layers.as_ref().map(wire::LayerRange::from),
                memory_bytes_max: limits.memory_bytes_max,
                layers_share_max: limits.layers_share_max,
            }),
            roles: Some(wire::Roles {
                layers: config.roles.layers,
                text: config.roles.text,
                decoder: config.roles.decoder,
            }),
            addresses: self.addresses.clone(),
            models: self.weights.local().iter().map(|model| model.0.to_vec()).collect(),
            held: held.collect(),
            fetches: self.weights.fetches(),
            draining: self.is_draining,
        }))
    }

    /// Gives the time between heartbeats.
    pub(crate) fn welcome(&mut self, welcome: &wire::Welcome) -> Result<Duration, Ended> {
        let coordinator = control::node(&welcome.coordinator)?;
        let incarnation = Incarnation(welcome.incarnation);
        let served = self.agree(welcome.model.as_ref())?;
        if self.incarnation.is_some_and(|known| known != incarnation) {
            let problem = "the coordinator counts this process as another one: start it again";
            return Err(Ended::Refused(problem.to_owned()));
        }
        if self.incarnation.is_none() {
            self.incarnation = Some(incarnation);
            let me = Me {
                end: End { node: self.node, incarnation },
                model: served,
                class: Some(self.class),
                tls: self.tls.clone(),
                payload_bytes_max: PAYLOAD_BYTES_MAX,
            };
            let switchboard =
                Switchboard::new(me, self.arrivals.clone(), self.notices_sender.clone());
            self.routes.update(|known| {
                known.switchboard = Some(switchboard.clone());
                known.coordinator = Some(coordinator);
            });
            self.coordinator = Some(coordinator);
            self.switchboard.send_replace(Some(switchboard));
        }
        // Again with every session: it does not wait for the dialler's next attempt.
        let way = Way::Coordinator(self.config.coordinator.clone());
        if let Some(switchboard) = self.switchboard.borrow().as_ref() {
            switchboard.connect(coordinator, way);
        }
        Ok(Duration::from_millis(welcome.heartbeat_ms.clamp(50, 60_000).into()))
    }

    /// Gives the model that the coordinator works with: the same as long as this
    /// process lives, and one whose weights can be had.
    fn agree(&mut self, model: Option<&wire::Model>) -> Result<ModelDigest, Ended> {
        let served = control::model_digest(model.map_or(&[], |model| &model.digest))?;
        if let Some(known) = self.served.filter(|known| *known != served) {
            return Err(Ended::Refused(format!(
                "the coordinator works with model {served}, this process with {known}: start it again"
            )));
        }
        self.served = Some(served);
        Ok(served)
    }
}

//! What a call to a provider works with, also when its asker has gone.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};

use diesel_async::AsyncPgConnection;
use egress::Egress;
use migrations::{pool::PgPooled, sealed::SealKeys};
use proto::v1::ErrorReason;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    error::{Error, Result},
    providers::gates::Gates,
    storage::Stores,
};

/// Connections to PostgreSQL that enrichment has at once, of the pool's sixteen: however many ask, events find the others.
const CONNECTIONS: usize = 4;

/// Stores, way out, keys and places; clones share them.
#[derive(Clone)]
pub struct Tools {
    /// The way out.
    pub egress: Egress,
    /// Keys of credentials.
    pub keys: Arc<SealKeys>,
    /// Places of each provider.
    pub gates: Arc<Gates>,
    stores: Stores,
    share: Arc<Semaphore>,
}

/// A connection of enrichment's share. It goes back to the pool before its place is free.
pub struct Connection {
    connection: PgPooled,
    _place: OwnedSemaphorePermit,
}

impl Tools {
    /// Makes the tools, with a share of the pool that is theirs.
    pub fn new(stores: &Stores, egress: &Egress, keys: &Arc<SealKeys>) -> Self {
        Self {
            egress: egress.clone(),
            keys: keys.clone(),
            gates: Arc::default(),
            stores: stores.clone(),
            share: Arc::new(Semaphore::new(CONNECTIONS)),
        }
    }

    /// Takes a connection, when it is this caller's turn.
    pub async fn connection(&self) -> Result<Connection> {
        let place = self.share.clone().acquire_owned().await;
        let place = place.map_err(|_| Error::refused(ErrorReason::Unavailable))?;
        Ok(Connection { connection: self.stores.connection().await?, _place: place })
    }
}

impl Deref for Connection {
    type Target = AsyncPgConnection;

    fn deref(&self) -> &AsyncPgConnection {
        &self.connection
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut AsyncPgConnection {
        &mut self.connection
    }
}

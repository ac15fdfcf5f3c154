//! `replicas: n`: a grant, a hand-over or an extend counts once n replicas have it.
//!
//! WAIT speaks of what its own connection has written, so it goes out right behind the script. It blocks what
//! is behind it, so grants and renewals have a connection each, and nothing else is on them.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, ServerError, Value};

use super::RedisBackend;
use super::config::RedisConfig;
use super::error::{self, unexpected};
use super::scripts::Call;
use super::transport::server::Server;
use crate::backend::{Acquired, Backend, Mutation, Owner};
use crate::lock::{Code, Error, Result};

/// One WAIT: short enough that the connection is not taken for a silent one. Several go out together; the rest
/// answer at once when one was enough.
const SLICE: Duration = Duration::from_millis(200);
/// Waiting for longer helps nobody.
const LONGEST: Duration = Duration::from_millis(2500);

#[derive(Debug)]
pub(super) struct Replicas {
    needed: u32,
    slices: usize,
    grants: Server,
    renewals: Server,
}

/// What a script answered, and why it does not count where too few replicas have it.
pub(super) struct Confirmed {
    pub(super) reply: Value,
    pub(super) short: Option<Error>,
}

impl Replicas {
    /// `None` where none are asked for.
    pub(super) fn new(config: &Arc<RedisConfig>) -> Option<Replicas> {
        // The other half is for taking a grant back.
        let patience = (config.operation_timeout / 2).min(LONGEST);
        let slices = usize::try_from(patience.as_millis().div_ceil(SLICE.as_millis())).unwrap_or(1);
        (config.replicas > 0).then(|| Replicas {
            needed: config.replicas,
            slices,
            grants: Server::new(config.clone()),
            renewals: Server::new(config.clone()),
        })
    }

    pub(super) fn close(&self) {
        self.grants.close();
        self.renewals.close();
    }

    async fn eval(&self, server: &Server, call: Call<'_>) -> Result<Confirmed> {
        let confirmed = self.send(server, &call, &call.by_hash()).await?;
        match &confirmed.reply {
            Value::ServerError(error) if error.code() == "NOSCRIPT" => {
                let Confirmed { reply, short } = self.send(server, &call, &call.by_text()).await?;
                Ok(Confirmed { reply: server.accept(reply)?, short })
            }
            _ => Ok(Confirmed { reply: server.accept(confirmed.reply)?, short: confirmed.short }),
        }
    }

    async fn send(&self, server: &Server, call: &Call<'_>, script: &Cmd) -> Result<Confirmed> {
        let mut wait = Cmd::with_capacity(3, 24);
        wait.arg("WAIT").arg(self.needed).arg(SLICE.as_millis().to_string());
        let mut commands = vec![script];
        commands.resize(1 + self.slices, &wait);
        let mut replies = server.send_all(call.keys[0], &commands).await?.into_iter();
        let reply = replies.next().unwrap_or_default();
        let short = match replies.next_back() {
            Some(Value::Int(count)) => (count < self.needed.into()).then(|| self.too_few()),
            // The script was run all the same.
            Some(Value::ServerError(error)) => Some(self.refused(server.place(), &error)),
            other => return Err(unexpected(server.place(), &other.unwrap_or_default()).unknown()),
        };
        Ok(Confirmed { reply, short })
    }

    /// A WAIT that may not be sent never will be; any other refusal says that the server is no master now.
    fn refused(&self, place: &str, error: &ServerError) -> Error {
        let refused = error::refused(place, error.code(), error.details());
        if refused.code() == Code::AuthFailed { refused } else { self.too_few().because(error.code()) }
    }

    fn too_few(&self) -> Error {
        Error::unavailable(format!(
            "fewer than {} replicas of Redis have confirmed the write in time; check the replication",
            self.needed
        ))
    }
}

impl RedisBackend {
    /// Runs a script that grants.
    pub(super) async fn eval_grant(&self, call: Call<'_>) -> Result<Confirmed> {
        match &self.replicas {
            Some(replicas) => replicas.eval(&replicas.grants, call).await,
            None => Ok(Confirmed { reply: self.server.eval(call).await?, short: None }),
        }
    }

    /// Runs a script that extends. Below the number its outcome is unknown: the master has the later expiry.
    pub(super) async fn eval_extend(&self, call: Call<'_>) -> Result<Value> {
        let Some(replicas) = &self.replicas else { return self.server.eval(call).await };
        let Confirmed { reply, short } = replicas.eval(&replicas.renewals, call).await?;
        short.map_or(Ok(reply), |short| Err(short.unknown()))
    }

    /// A grant counts where enough replicas have it. Otherwise it is taken back: `Err` with what became of that.
    pub(super) async fn confirm(&self, acquired: Acquired, short: Option<Error>) -> Result<Acquired> {
        match (short, acquired) {
            (Some(short), Acquired::Granted(lease)) => match self.release(&Owner::from(lease)).await {
                Ok(Mutation::Done(()) | Mutation::NotFound | Mutation::Expired) => Err(short),
                Err(error) => Err(short.unknown().because(error)),
            },
            (_, acquired) => Ok(acquired),
        }
    }
}

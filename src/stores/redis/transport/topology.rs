//! What the nodes of a cluster say about its slots, and whom to believe.

use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use redis::{Cmd, Pipeline, Value};
use tokio::time::{Instant, timeout, timeout_at};

use super::link::Link;
use super::slots::SlotMap;
use crate::lock::{Error, Result};
use crate::stores::redis::config::endpoint::Address;
use crate::stores::redis::error;

/// How many nodes are asked at the same time.
const WIDTH: usize = 4;
/// For how long others may still contradict an answer that is whole, and one that is not.
const SECOND_OPINIONS: Duration = Duration::from_millis(50);
const BETTER_ANSWERS: Duration = Duration::from_millis(250);

/// One node's view. The later ones are better.
#[derive(Debug)]
struct View {
    /// Whether it says that the cluster works, how many slots it knows, and how late in its history it is.
    rank: (bool, usize, u64),
    map: SlotMap,
}

/// Asks the nodes, some at a time, each with a share of `limit`, and takes the best answer: one that was
/// reset or forgotten may be the first to answer.
pub(in crate::stores::redis) async fn read(nodes: Vec<(Address, Link)>, limit: Duration) -> Result<SlotMap> {
    let rounds = nodes.len().div_ceil(WIDTH).max(1);
    let share = limit / u32::try_from(rounds).unwrap_or(u32::MAX);
    let asks = nodes.into_iter().map(|(node, link)| async move {
        timeout(share, ask(&node, &link)).await.unwrap_or_else(|_| {
            Err(Error::new(
                crate::lock::Code::NetworkTimeout,
                format!(
                    "the node {node} of the Redis Cluster did not answer within {} ms",
                    share.as_millis()
                ),
            )
            .retryable())
        })
    });
    let mut answers = stream::iter(asks).buffer_unordered(WIDTH);
    let (mut best, mut until, mut last): (Option<View>, Option<Instant>, _) = (None, None, None);
    loop {
        let answer = match until {
            None => answers.next().await,
            Some(until) => timeout_at(until, answers.next()).await.unwrap_or_default(),
        };
        match answer {
            None => break,
            Some(Err(error)) => last = Some(error),
            Some(Ok(view)) => {
                let patience = if view.is_whole() { SECOND_OPINIONS } else { BETTER_ANSWERS };
                let enough = Instant::now() + patience;
                until = Some(until.map_or(enough, |until| until.min(enough)));
                if best.as_ref().is_none_or(|best| best.rank < view.rank) {
                    best = Some(view);
                }
            }
        }
    }
    match best {
        Some(view) => Ok(view.map),
        None => Err(last.unwrap_or_else(|| Error::unavailable("no node of the Redis Cluster is known"))),
    }
}

impl View {
    fn is_whole(&self) -> bool {
        self.rank.0 && self.map.is_whole()
    }
}

async fn ask(node: &Address, link: &Link) -> Result<View> {
    let mut commands = Pipeline::with_capacity(2);
    commands.add_command(cluster("SLOTS")).add_command(cluster("INFO"));
    let replies = link.request_all(&commands).await?;
    let (slots, info) = (&replies[0], &replies[1]);
    if let Value::ServerError(refusal) = slots {
        return Err(error::refused(&node.to_string(), refusal.code(), refusal.details()));
    }
    let map = SlotMap::parse(slots, node)
        .ok_or_else(|| error::unexpected(&node.to_string(), slots).not_applied())?;
    if map.is_empty() {
        return Err(Error::unavailable(format!("the node {node} knows of no slots yet")));
    }
    // Where that may not be asked, the slots alone tell views apart.
    let info = match info {
        Value::BulkString(text) => String::from_utf8_lossy(text).into_owned(),
        Value::VerbatimString { text, .. } => text.clone(),
        _ => String::new(),
    };
    let field = |name: &str| {
        info.lines()
            .find_map(|line| line.trim_end().strip_prefix(name).and_then(|rest| rest.strip_prefix(':')))
    };
    let epoch = field("cluster_current_epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
    let works = field("cluster_state").is_none_or(|state| state == "ok");
    Ok(View { rank: (works, map.slots(), epoch), map })
}

fn cluster(what: &str) -> Cmd {
    let mut command = Cmd::with_capacity(2, 16);
    command.arg("CLUSTER").arg(what);
    command
}

//! A Redis Cluster of three masters, and a master with a replica and a sentinel.

use std::time::{Duration, Instant};

use super::redis_server::RedisServer;
use super::{TempDir, free_port};

pub struct RedisCluster {
    pub nodes: Vec<RedisServer>,
}

impl RedisCluster {
    pub fn start() -> RedisCluster {
        let buses: Vec<u16> = (0..3).map(|_| free_port()).collect();
        let nodes: Vec<RedisServer> = buses
            .iter()
            .map(|bus| {
                RedisServer::with(|_| {
                    [
                        "--cluster-enabled",
                        "yes",
                        "--cluster-port",
                        &bus.to_string(),
                        "--cluster-node-timeout",
                        "2000",
                    ]
                    .map(str::to_owned)
                    .to_vec()
                })
            })
            .collect();
        for (i, node) in nodes.iter().enumerate() {
            let mut client = node.client();
            let (first, last) = (i * 5462, ((i + 1) * 5462).min(16384) - 1);
            redis::cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(first).arg(last).exec(&mut client).unwrap();
            redis::cmd("CLUSTER").arg("SET-CONFIG-EPOCH").arg(i + 1).exec(&mut client).unwrap();
        }
        let mut client = nodes[0].client();
        for (node, bus) in nodes.iter().zip(&buses).skip(1) {
            redis::cmd("CLUSTER")
                .arg("MEET")
                .arg("127.0.0.1")
                .arg(node.port)
                .arg(*bus)
                .exec(&mut client)
                .unwrap();
        }
        let cluster = RedisCluster { nodes };
        cluster.wait();
        cluster
    }

    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        format!("redis-cluster://{}", hosts.join(","))
    }

    /// Runs a command on whichever node takes it.
    pub fn run<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> T {
        let mut last = None;
        for node in &self.nodes {
            match command.query(&mut node.client()) {
                Ok(value) => return value,
                Err(error) => last = Some(error),
            }
        }
        panic!("no node takes the command: {last:?}");
    }

    /// The node that holds a key.
    pub fn owner(&self, key: &str) -> usize {
        let slot: usize =
            redis::cmd("CLUSTER").arg("KEYSLOT").arg(key).query(&mut self.nodes[0].client()).unwrap();
        slot / 5462
    }

    pub fn slot(&self, key: &str) -> u16 {
        redis::cmd("CLUSTER").arg("KEYSLOT").arg(key).query(&mut self.nodes[0].client()).unwrap()
    }

    pub fn id(&self, node: usize) -> String {
        redis::cmd("CLUSTER").arg("MYID").query(&mut self.nodes[node].client()).unwrap()
    }

    fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        let ready = |node: &RedisServer| {
            let info: String = redis::cmd("CLUSTER").arg("INFO").query(&mut node.client()).unwrap();
            let slots: Vec<redis::Value> =
                redis::cmd("CLUSTER").arg("SLOTS").query(&mut node.client()).unwrap();
            info.contains("cluster_state:ok") && slots.len() == 3
        };
        while !self.nodes.iter().all(ready) {
            assert!(Instant::now() < deadline, "the cluster does not form");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A master, its replica, and the sentinel that watches them.
pub struct Sentinels {
    pub servers: Vec<RedisServer>,
    pub sentinel: RedisServer,
}

impl Sentinels {
    pub fn start() -> Sentinels {
        let master = RedisServer::start();
        let replica = RedisServer::with(|_| vec!["--replicaof".into(), format!("127.0.0.1 {}", master.port)]);
        let dir = TempDir::new();
        let config = dir.join("sentinel.conf");
        let lines = [
            format!("sentinel monitor main 127.0.0.1 {} 1", master.port),
            "sentinel down-after-milliseconds main 500".to_owned(),
            "sentinel failover-timeout main 5000".to_owned(),
        ];
        std::fs::write(&config, lines.join("\n") + "\n").unwrap();
        let sentinel = RedisServer::sentinel(free_port(), dir, config);
        let sentinels = Sentinels { servers: vec![master, replica], sentinel };
        sentinels.wait();
        sentinels
    }

    pub fn url(&self) -> String {
        format!("redis-sentinel://127.0.0.1:{}/main", self.sentinel.port)
    }

    /// Waits until the sentinel knows a replica in sync, so that it can fail over.
    fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut client = self.sentinel.client();
        loop {
            let replicas: Vec<std::collections::HashMap<String, String>> =
                redis::cmd("SENTINEL").arg("REPLICAS").arg("main").query(&mut client).unwrap();
            if replicas
                .iter()
                .any(|replica| replica.get("master-link-status").is_some_and(|status| status == "ok"))
            {
                return;
            }
            assert!(Instant::now() < deadline, "the sentinel finds no replica");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

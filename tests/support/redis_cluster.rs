//! A Redis Cluster of three masters, and a master with a replica and a sentinel.

use std::time::{Duration, Instant};

use super::redis_server::RedisServer;
use super::{TempDir, free_port};

pub struct RedisCluster {
    pub nodes: Vec<RedisServer>,
}

impl RedisCluster {
    pub fn start() -> RedisCluster {
        let nodes: Vec<RedisServer> = (0..3).map(|_| cluster_node()).collect();
        for (i, node) in nodes.iter().enumerate() {
            let mut client = node.client();
            let (first, last) = (i * 5462, ((i + 1) * 5462).min(16384) - 1);
            redis::cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(first).arg(last).exec(&mut client).unwrap();
            redis::cmd("CLUSTER").arg("SET-CONFIG-EPOCH").arg(i + 1).exec(&mut client).unwrap();
        }
        let mut client = nodes[0].client();
        for node in &nodes[1..] {
            let bus: Vec<String> =
                redis::cmd("CONFIG").arg("GET").arg("cluster-port").query(&mut node.client()).unwrap();
            let words = ["MEET", "127.0.0.1", &node.port.to_string(), &bus[1]];
            redis::cmd("CLUSTER").arg(&words).exec(&mut client).unwrap();
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

    /// A node that takes the place of a master when that fails.
    pub fn add_replica(&mut self, of: usize) {
        let replica = cluster_node();
        let bus: Vec<String> =
            redis::cmd("CONFIG").arg("GET").arg("cluster-port").query(&mut replica.client()).unwrap();
        let meet =
            |words: &[&str]| redis::cmd("CLUSTER").arg(words).exec(&mut self.nodes[0].client()).unwrap();
        meet(&["MEET", "127.0.0.1", &replica.port.to_string(), &bus[1]]);
        let id = self.id(of);
        let deadline = Instant::now() + Duration::from_secs(30);
        let replicate =
            || redis::cmd("CLUSTER").arg("REPLICATE").arg(&id).exec(&mut replica.client()).is_ok();
        let in_sync = || {
            let info: String = redis::cmd("INFO").arg("replication").query(&mut replica.client()).unwrap();
            info.contains("master_link_status:up")
        };
        let known = || {
            let nodes: String =
                redis::cmd("CLUSTER").arg("NODES").query(&mut self.nodes[(of + 1) % 3].client()).unwrap();
            nodes.lines().any(|line| line.contains("slave") && line.contains(&id))
        };
        let until = |what: &str, done: &dyn Fn() -> bool| {
            while !done() {
                assert!(Instant::now() < deadline, "not in time: {what}");
                std::thread::sleep(Duration::from_millis(50));
            }
        };
        // Once: asking again would begin the synchronisation again.
        until("the replica is told of whom", &replicate);
        until("the replica is in sync", &in_sync);
        until("the others know of it", &known);
        self.nodes.push(replica);
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

fn cluster_node() -> RedisServer {
    RedisServer::with(|_| {
        [
            "--cluster-enabled",
            "yes",
            "--cluster-port",
            &free_port().to_string(),
            "--cluster-node-timeout",
            "2000",
        ]
        .map(str::to_owned)
        .to_vec()
    })
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
        Sentinels::over(master, replica)
    }

    /// Over servers of version 6.2.
    pub fn old() -> Sentinels {
        let master = RedisServer::old(&[]);
        let replica = RedisServer::old(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
        Sentinels::over(master, replica)
    }

    fn over(master: RedisServer, replica: RedisServer) -> Sentinels {
        let sentinels = Sentinels { sentinel: watch(&master, 500), servers: vec![master, replica] };
        sentinels.wait();
        sentinels
    }

    /// A master without a replica, whose sentinel is in no hurry.
    pub fn of_one() -> Sentinels {
        let master = RedisServer::start();
        Sentinels { sentinel: watch(&master, 60_000), servers: vec![master] }
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

/// A sentinel that believes a master to be down after so many milliseconds.
fn watch(master: &RedisServer, down_after: u32) -> RedisServer {
    let dir = TempDir::new();
    let config = dir.join("sentinel.conf");
    let lines = [
        format!("sentinel monitor main 127.0.0.1 {} 1", master.port),
        format!("sentinel down-after-milliseconds main {down_after}"),
        "sentinel failover-timeout main 5000".to_owned(),
    ];
    std::fs::write(&config, lines.join("\n") + "\n").unwrap();
    RedisServer::sentinel(free_port(), dir, config)
}

//! The line in an instance's claim.

use serde::{Deserialize, Serialize};

use crate::local::process::ProcessId;
use crate::lock::Timestamp;

/// Who made the claim, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub process: ProcessId,
    pub since: Timestamp,
}

/// One JSON line. The first field tells a claim of ours from any other file that holds JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(rename = "syncguardPid")]
    pid: u32,
    #[serde(rename = "startTime")]
    start_time: u64,
    #[serde(rename = "bootID")]
    boot_id: String,
    #[serde(rename = "pidNS")]
    pid_namespace: u64,
    #[serde(rename = "sinceMs")]
    since: u64,
}

impl Record {
    pub fn encode(&self) -> Vec<u8> {
        let ProcessId { pid, start_time, boot_id, pid_namespace } = &self.process;
        let line = Line {
            pid: *pid,
            start_time: *start_time,
            boot_id: boot_id.to_string(),
            pid_namespace: *pid_namespace,
            since: self.since.as_millis(),
        };
        let mut text = serde_json::to_string(&line).unwrap_or_default();
        text.push('\n');
        text.into_bytes()
    }

    /// `None` for what is no record of ours.
    pub fn decode(content: &[u8]) -> Option<Record> {
        let line: Line = serde_json::from_slice(content).ok()?;
        let process = ProcessId {
            pid: line.pid,
            start_time: line.start_time,
            boot_id: line.boot_id.into(),
            pid_namespace: line.pid_namespace,
        };
        Some(Record { process, since: Timestamp::from_millis(line.since) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_was_written_and_not_when_cut_short() {
        let process =
            ProcessId { pid: 7, start_time: 9, boot_id: "boot".into(), pid_namespace: 4_026_531_836 };
        let record = Record { process, since: Timestamp::from_millis(1_763_683_200_123) };
        let line = record.encode();
        assert_eq!(Record::decode(&line), Some(record));
        for length in 0..line.len() - 1 {
            assert_eq!(Record::decode(&line[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn other_files_are_not_taken_for_a_claim() {
        for content in ["", "\n", "4242", "{}", r#"{"pid":1}"#, "#!/bin/sh\n"] {
            assert_eq!(Record::decode(content.as_bytes()), None, "{content:?}");
        }
    }
}

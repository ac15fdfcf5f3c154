//! Which node of a cluster holds which key (<https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>).

use redis::Value;

use crate::stores::redis::config::endpoint::Address;

const SLOTS: u16 = 16384;

/// The hash slot of a key: of what stands between its first braces, if anything does.
pub(in crate::stores::redis) fn slot_of(key: &str) -> u16 {
    crc16(hash_tag(key).unwrap_or(key).as_bytes()) % SLOTS
}

/// What stands between the first brace and the next closing one, unless that is nothing.
pub(in crate::stores::redis) fn hash_tag(key: &str) -> Option<&str> {
    let (_, rest) = key.split_once('{')?;
    let (tag, _) = rest.split_once('}')?;
    (!tag.is_empty()).then_some(tag)
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}

/// Slots and their masters.
#[derive(Clone, Debug, Default)]
pub(in crate::stores::redis) struct SlotMap(Vec<Range>);

#[derive(Clone, Debug)]
struct Range {
    first: u16,
    last: u16,
    master: Address,
}

impl SlotMap {
    /// Reads the answer to CLUSTER SLOTS. A node that does not say its host is the one that was asked.
    pub(in crate::stores::redis) fn parse(reply: &Value, asked: &Address) -> Option<SlotMap> {
        let Value::Array(ranges) = reply else { return None };
        ranges.iter().map(|range| parse_range(range, asked)).collect::<Option<Vec<Range>>>().map(SlotMap)
    }

    pub(in crate::stores::redis) fn master_of(&self, slot: u16) -> Option<&Address> {
        self.0.iter().find(|range| (range.first..=range.last).contains(&slot)).map(|range| &range.master)
    }

    pub(in crate::stores::redis) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many slots have a master, as a node tells it: no slot twice.
    pub(in crate::stores::redis) fn slots(&self) -> usize {
        self.0.iter().map(|range| usize::from(range.last.saturating_sub(range.first)) + 1).sum()
    }

    pub(in crate::stores::redis) fn is_whole(&self) -> bool {
        self.slots() == usize::from(SLOTS)
    }

    pub(in crate::stores::redis) fn masters(&self) -> impl Iterator<Item = &Address> {
        self.0.iter().map(|range| &range.master)
    }

    /// One slot is elsewhere now. Whatever else has moved shows when the whole map is read again.
    pub(in crate::stores::redis) fn moved(&mut self, slot: u16, master: Address) {
        self.0.insert(0, Range { first: slot, last: slot, master });
    }
}

fn parse_range(range: &Value, asked: &Address) -> Option<Range> {
    let Value::Array(parts) = range else { return None };
    let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = parts.as_slice() else {
        return None;
    };
    let [host, Value::Int(port), ..] = master.as_slice() else { return None };
    let port = u16::try_from(*port).ok()?;
    let host = match host {
        Value::BulkString(host) if host != b"?" => std::str::from_utf8(host).ok()?,
        _ => "",
    };
    Some(Range {
        first: u16::try_from(*first).ok()?,
        last: u16::try_from(*last).ok()?,
        master: beside(asked, host, port),
    })
}

/// An address as a node gives it: without a host it means the host of the node that said so.
pub(in crate::stores::redis) fn beside(asked: &Address, host: &str, port: u16) -> Address {
    match asked {
        Address::Tcp { host: same, .. } if host.is_empty() => Address::tcp(same, port),
        _ => Address::tcp(host, port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(slot_of("foo"), 12182);
        assert_eq!(slot_of("a{foo}b{bar}"), 12182);
        for whole in ["a{}{foo}", "a{foo", "a}foo{"] {
            assert_eq!(slot_of(whole), crc16(whole.as_bytes()) % SLOTS);
        }
    }
}

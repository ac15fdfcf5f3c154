//! The requests to Firestore that a lock takes, one trip each.

use super::connection::{Again, Server};
use super::proto::batch_get_documents_response::Result as Got;
use super::proto::{
    BatchGetDocumentsRequest, BatchWriteRequest, CommitRequest, Document, RunQueryRequest, Write, WriteResult,
};
use crate::lock::Result;
use crate::stores::firestore::documents::Version;
use crate::stores::firestore::error::{self, Request};
use crate::stores::firestore::names::{self, Names};

/// What became of a change that depends on what was seen before.
#[derive(Debug)]
pub(in crate::stores::firestore) enum Committed {
    /// One version for each write, in order.
    Done(Vec<Version>),
    /// Somebody else was faster; nothing was changed.
    Conflict,
}

impl Server {
    /// Documents by name, in order; `None` where there is none.
    pub(in crate::stores::firestore) async fn read<const N: usize>(
        &self,
        documents: [&str; N],
    ) -> Result<[Option<Document>; N]> {
        let mut again = Again::default();
        let mut found = [const { None }; N];
        let mut told;
        'asked: loop {
            let mut call = self.call(Request::Read).await?;
            let message = call.message(BatchGetDocumentsRequest {
                database: call.names.database.clone(),
                documents: documents.map(str::to_owned).to_vec(),
                mask: Some(names::mask()),
                ..BatchGetDocumentsRequest::default()
            })?;
            let mut replies = match call.client().batch_get_documents(message).await {
                Ok(replies) => replies.into_inner(),
                Err(status) => {
                    call.failed(&status, &mut again)?;
                    continue;
                }
            };
            told = [false; N];
            loop {
                let reply = match replies.message().await {
                    Ok(Some(reply)) => reply,
                    Ok(None) => break 'asked,
                    Err(status) => {
                        call.failed(&status, &mut again)?;
                        continue 'asked;
                    }
                };
                call.answered(reply.read_time.as_ref());
                let (name, document) = match reply.result {
                    Some(Got::Found(document)) => (document.name.clone(), Some(document)),
                    Some(Got::Missing(name)) => (name, None),
                    None => continue,
                };
                if let Some(index) = documents.iter().position(|asked| names::same(asked, &name)) {
                    (found[index], told[index]) = (document, true);
                }
            }
        }
        // Never take for absent what the server kept silent about.
        if told.contains(&false) {
            return Err(error::strange(&self.config.host, "a read without one of its documents"));
        }
        Ok(found)
    }

    /// The documents that a query finds, in its order.
    pub(in crate::stores::firestore) async fn query(
        &self,
        query: impl Fn(&Names) -> RunQueryRequest + Sync,
    ) -> Result<Vec<Document>> {
        let mut again = Again::default();
        'asked: loop {
            let mut call = self.call(Request::Query).await?;
            let message = call.message(query(&call.names))?;
            let mut replies = match call.client().run_query(message).await {
                Ok(replies) => replies.into_inner(),
                Err(status) => {
                    call.failed(&status, &mut again)?;
                    continue;
                }
            };
            let mut found = Vec::new();
            loop {
                let reply = match replies.message().await {
                    Ok(Some(reply)) => reply,
                    Ok(None) => return Ok(found),
                    Err(status) => {
                        call.failed(&status, &mut again)?;
                        continue 'asked;
                    }
                };
                call.answered(reply.read_time.as_ref());
                found.extend(reply.document);
            }
        }
    }

    /// All of the changes, or none.
    pub(in crate::stores::firestore) async fn commit(
        &self,
        writes: impl Fn() -> Vec<Write> + Sync,
    ) -> Result<Committed> {
        let mut again = Again::default();
        let (mut call, expected, reply) = loop {
            let mut call = self.call(Request::Commit).await?;
            let writes = writes();
            let expected = writes.len();
            let message = call.message(CommitRequest {
                database: call.names.database.clone(),
                writes,
                ..CommitRequest::default()
            })?;
            match call.client().commit(message).await {
                Ok(reply) => break (call, expected, reply.into_inner()),
                Err(status) if is_answer(&status) && error::is_conflict(status.code()) => {
                    call.answered(None);
                    return Ok(Committed::Conflict);
                }
                Err(status) => call.failed(&status, &mut again)?,
            }
        };
        call.answered(reply.commit_time.as_ref());
        if reply.write_results.len() != expected {
            return Err(error::strange(&self.config.host, "a commit without one of its results").unknown());
        }
        let version = |result: &WriteResult| match result.update_time.or(reply.commit_time) {
            Some(time) => Version::Updated(time),
            None => Version::Absent,
        };
        Ok(Committed::Done(reply.write_results.iter().map(version).collect()))
    }

    /// Each of the changes by itself, of documents that differ; one result for each, in order.
    pub(in crate::stores::firestore) async fn write_each(
        &self,
        writes: impl Fn() -> Vec<Write> + Sync,
    ) -> Result<Vec<Result<Committed>>> {
        let mut again = Again::default();
        let (mut call, expected, reply) = loop {
            let mut call = self.call(Request::Commit).await?;
            let writes = writes();
            let expected = writes.len();
            let message = call.message(BatchWriteRequest {
                database: call.names.database.clone(),
                writes,
                ..BatchWriteRequest::default()
            })?;
            match call.client().batch_write(message).await {
                Ok(reply) => break (call, expected, reply.into_inner()),
                Err(status) => call.failed(&status, &mut again)?,
            }
        };
        call.answered(None);
        if reply.write_results.len() != expected || reply.status.len() != expected {
            return Err(error::strange(&self.config.host, "a batch without one of its results").unknown());
        }
        let each = reply.write_results.iter().zip(&reply.status).map(|(result, status)| {
            match (tonic::Code::from_i32(status.code), result.update_time) {
                (tonic::Code::Ok, Some(time)) => Ok(Committed::Done(vec![Version::Updated(time)])),
                (tonic::Code::Ok, None) => {
                    Err(error::strange(&self.config.host, "a write without its update time").unknown())
                }
                (code, _) if error::is_conflict(code) => Ok(Committed::Conflict),
                (code, _) => Err(error::of_code(&self.config.host, Request::Commit, code)),
            }
        });
        Ok(each.collect())
    }
}

/// Whether the status came from the server, and not from a connection that broke.
fn is_answer(status: &tonic::Status) -> bool {
    std::error::Error::source(status).is_none()
}

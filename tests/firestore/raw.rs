//! Firestore by its plain interface, for looking at documents and for writing what no backend would.

use std::collections::BTreeMap;

use googleapis_tonic_google_firestore_v1::google::firestore::v1 as proto;
use proto::firestore_client::FirestoreClient;
use proto::value::ValueType;
use tonic::transport::{Channel, Endpoint};

pub struct Raw {
    client: FirestoreClient<Channel>,
    database: String,
}

pub fn text(text: &str) -> ValueType {
    ValueType::StringValue(text.to_owned())
}

pub fn whole(number: u64) -> ValueType {
    ValueType::IntegerValue(number.try_into().expect("a small number"))
}

#[allow(clippy::cast_precision_loss, reason = "times are below 2^53")]
pub fn double(number: u64) -> ValueType {
    ValueType::DoubleValue(number as f64)
}

impl Raw {
    pub fn new(host: &str, project: &str) -> Raw {
        Raw::of_database(host, project, "(default)")
    }

    pub fn of_database(host: &str, project: &str, database: &str) -> Raw {
        let channel = Endpoint::from_shared(format!("http://{host}")).expect("a host").connect_lazy();
        Raw {
            client: FirestoreClient::new(channel),
            database: format!("projects/{project}/databases/{database}"),
        }
    }

    fn name(&self, path: &str) -> String {
        format!("{}/documents/{path}", self.database)
    }

    fn request<T>(message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert("authorization", "Bearer owner".parse().expect("a header"));
        request
    }

    /// The fields of a document at `collection/id`.
    pub async fn get(&self, path: &str) -> Option<BTreeMap<String, ValueType>> {
        let message = proto::BatchGetDocumentsRequest {
            database: self.database.clone(),
            documents: vec![self.name(path)],
            ..Default::default()
        };
        let mut client = self.client.clone();
        let mut replies = client
            .batch_get_documents(Self::request(message))
            .await
            .expect("the emulator reads")
            .into_inner();
        let reply = replies.message().await.expect("a reply").expect("one document");
        match reply.result {
            Some(proto::batch_get_documents_response::Result::Found(document)) => Some(
                document
                    .fields
                    .into_iter()
                    .map(|(name, value)| (name, value.value_type.expect("a value")))
                    .collect(),
            ),
            _ => None,
        }
    }

    pub async fn put(&self, path: &str, fields: &[(&str, ValueType)]) {
        self.write(self.update(path, fields)).await;
    }

    pub async fn delete(&self, path: &str) {
        let operation = Some(proto::write::Operation::Delete(self.name(path)));
        self.write(proto::Write { operation, ..Default::default() }).await;
    }

    /// As the original library does it: reads a document in a transaction, writes it if it was not there.
    /// Answers whether that was committed.
    pub async fn transact(&self, path: &str, fields: &[(&str, ValueType)]) -> bool {
        let begin = proto::BeginTransactionRequest { database: self.database.clone(), ..Default::default() };
        let mut client = self.client.clone();
        let Ok(begun) = client.begin_transaction(Self::request(begin)).await else { return false };
        let transaction = begun.into_inner().transaction;
        let read = proto::BatchGetDocumentsRequest {
            database: self.database.clone(),
            documents: vec![self.name(path)],
            consistency_selector: Some(proto::batch_get_documents_request::ConsistencySelector::Transaction(
                transaction.clone(),
            )),
            ..Default::default()
        };
        let free = match client.batch_get_documents(Self::request(read)).await {
            Ok(replies) => match replies.into_inner().message().await {
                Ok(Some(reply)) => {
                    matches!(reply.result, Some(proto::batch_get_documents_response::Result::Missing(_)))
                }
                _ => false,
            },
            Err(_) => false,
        };
        if !free {
            let rollback = proto::RollbackRequest { database: self.database.clone(), transaction };
            let _ = client.rollback(Self::request(rollback)).await;
            return false;
        }
        let commit = proto::CommitRequest {
            database: self.database.clone(),
            writes: vec![self.update(path, fields)],
            transaction,
        };
        client.commit(Self::request(commit)).await.is_ok()
    }

    fn update(&self, path: &str, fields: &[(&str, ValueType)]) -> proto::Write {
        let value = |value: &ValueType| proto::Value { value_type: Some(value.clone()) };
        let document = proto::Document {
            name: self.name(path),
            fields: fields.iter().map(|(name, it)| ((*name).to_owned(), value(it))).collect(),
            ..Default::default()
        };
        proto::Write { operation: Some(proto::write::Operation::Update(document)), ..Default::default() }
    }

    async fn write(&self, write: proto::Write) {
        let message = proto::CommitRequest {
            database: self.database.clone(),
            writes: vec![write],
            ..Default::default()
        };
        self.client.clone().commit(Self::request(message)).await.expect("the emulator writes");
    }
}

//! The messages of Firestore's gRPC interface, under a short name.

pub(in crate::stores::firestore) use googleapis_tonic_google_firestore_v1::google::firestore::v1::*;

//! The file backend: the conformance suite, and what only files can suffer.

#[path = "../support/asking.rs"]
mod asking;
mod child;
mod contention;
mod hanging;
mod hostile;
mod kills;
mod namespaces;
#[path = "../support/needs.rs"]
mod needs;
mod owners;
mod speed;
mod storage;
mod tidy;
mod waiting;

mod conformance {
    use syncguard::stores::file::FileFixture;
    syncguard::conformance_suite!(FileFixture::new());
}

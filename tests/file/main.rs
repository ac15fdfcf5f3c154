//! The file backend: the conformance suite, and what only files can suffer.

mod conformance {
    use syncguard::file::FileFixture;
    syncguard::conformance_suite!(FileFixture::new());
}

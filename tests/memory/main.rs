//! The conformance suite on the memory backend, with each of its clocks.

mod by_hand {
    use syncguard::stores::memory::MemoryFixture;
    syncguard::conformance_suite!(MemoryFixture::by_hand());
}

mod real_clock {
    use syncguard::stores::memory::MemoryFixture;
    syncguard::conformance_suite!(MemoryFixture::real());
}

mod vanishing {
    use syncguard::stores::memory::MemoryFixture;
    syncguard::conformance_suite!(MemoryFixture::vanishing());
}

mod hooks;

//! Stores are opened by kind, in one line, and say at once what they cannot make sense of.

use std::sync::Arc;

use syncguard::backend::{Backend, Surroundings};
use syncguard::lock::{Code, Result};
use syncguard::stores::target::{Password, Setting, Settings, Target};
use syncguard::stores::{Kind, open};

fn of(kind: Kind, target: &str, options: Settings) -> Result<Arc<dyn Backend>> {
    open(kind, Target::Url(target.into()), options, Password::None, &Surroundings::default())
}

#[test]
fn a_kind_has_one_name() {
    for kind in Kind::ALL.iter().copied() {
        assert_eq!(kind.name().parse::<Kind>().unwrap(), kind);
    }
    for name in ["", "Redis", "redis ", "sqlite"] {
        let error = name.parse::<Kind>().unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.message().contains(&format!("{name:?}")), "{error}");
    }
}

#[test]
fn each_kind_opens_its_store_without_io() {
    let nowhere = [
        (Kind::Redis, "redis://localhost:1"),
        (Kind::Postgres, "postgres://someone@localhost:1/locks"),
        (Kind::Firestore, "firestore://a-project"),
        (Kind::File, "file:/nonexistent/locks"),
        (Kind::Memory, "memory:registry"),
    ];
    for (kind, target) in nowhere {
        let backend = of(kind, target, Settings::default()).unwrap();
        assert_eq!(backend.capabilities().name, kind.name());
        // A target of another store.
        let error = of(kind, "sqlite:locks", Settings::default()).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{kind:?}: {error}");
    }
}

#[test]
fn an_unknown_option_is_refused_by_every_kind() {
    for kind in Kind::ALL.iter().copied() {
        let options = [("colour".to_owned(), Setting::Flag(true))].into_iter().collect();
        let target = format!("{}://localhost/x", kind.name());
        let error = of(kind, &target, options).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.message().contains("colour"), "{kind:?}: {error}");
    }
}

#[test]
fn one_name_opens_one_store() {
    let [a, b] = [(); 2].map(|()| of(Kind::Memory, "memory:one", Settings::default()).unwrap());
    let other = of(Kind::Memory, "memory:other", Settings::default()).unwrap();
    assert_eq!(a.capabilities().store, b.capabilities().store);
    assert_ne!(a.capabilities().store, other.capabilities().store);
}

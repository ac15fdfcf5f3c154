//! Access tokens: where they come from, and keeping one at hand.

mod file;
mod http;
mod metadata;
mod service_account;
mod user;

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex as AsyncMutex;

use super::clock::Moment;
use crate::lock::{Code, Error, Result};
use crate::stores::target::{Password, Secret};

/// What a token may be used for.
const SCOPE: &str = "https://www.googleapis.com/auth/datastore";
/// How long a token of the user's own function is used before the function is asked again.
const PROVIDED_FOR: Duration = Duration::from_secs(300);
/// How long before its end a token is renewed. The metadata server hands out the same token until four
/// minutes before its end, so earlier is no use.
const AHEAD: Duration = Duration::from_secs(225);
/// After a renewal ahead of time failed, the next is tried no sooner than this.
const PAUSE: Duration = Duration::from_secs(10);
/// A token that was fetched less than this ago is as good as a new one.
const FRESH: Duration = Duration::from_secs(5);

/// How a backend proves who it is. `Debug` shows no secret.
#[derive(Clone, Debug)]
pub(super) enum Credentials {
    /// What the emulator takes for an administrator.
    Emulator,
    Token(Password),
    File(PathBuf),
    Pair {
        email: String,
        key: Secret,
    },
    /// Application Default Credentials: a file, or the metadata server.
    Default,
}

/// An access token and how long it is good for.
#[derive(Clone, Debug)]
pub(super) struct Token {
    text: Secret,
    /// `None`: for ever.
    lifetime: Option<Duration>,
}

/// Where tokens come from. One attempt per call.
#[async_trait]
trait TokenSource: Debug + Send + Sync {
    async fn token(&self) -> Result<Token>;

    /// The project that the credentials belong to, where they tell.
    async fn project(&self) -> Result<Option<String>>;
}

/// Keeps one token at hand, and renews it in the background before it ends.
#[derive(Clone, Debug)]
pub(super) struct Tokens(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    credentials: Credentials,
    timeout: Duration,
    source: AsyncMutex<Option<Arc<dyn TokenSource>>>,
    /// Held by whoever fetches a token while there is none, so that the others wait for it.
    fetching: AsyncMutex<()>,
    current: Mutex<Option<Current>>,
}

#[derive(Clone, Debug)]
struct Current {
    text: Secret,
    fetched: Moment,
    renew_at: Option<Moment>,
    ends_at: Option<Moment>,
}

impl Tokens {
    pub(super) fn new(credentials: Credentials, timeout: Duration) -> Tokens {
        Tokens(Arc::new(Inner {
            credentials,
            timeout,
            source: AsyncMutex::default(),
            fetching: AsyncMutex::default(),
            current: Mutex::default(),
        }))
    }

    /// # Errors
    /// `AuthFailed` when there are no credentials or they were refused, `ServiceUnavailable` or
    /// `NetworkTimeout` when whoever issues tokens can't be asked, and what the user's function failed with.
    pub(super) async fn get(&self) -> Result<Secret> {
        if let Some(text) = self.at_hand() {
            return Ok(text);
        }
        let _turn = self.0.fetching.lock().await;
        match self.at_hand() {
            Some(text) => Ok(text),
            None => self.fetch().await,
        }
    }

    /// # Errors
    /// As [`Tokens::get`].
    pub(super) async fn project(&self) -> Result<Option<String>> {
        self.timely(async { self.source().await?.project().await }).await
    }

    /// The server did not accept this token: the next call fetches another. Answers whether that may help.
    pub(super) fn refused(&self, token: &Secret) -> bool {
        let mut current = self.current();
        match current.as_ref() {
            Some(kept) if kept.text != *token => true,
            Some(kept) => {
                let old = Moment::now().since(kept.fetched) >= FRESH;
                *current = None;
                old
            }
            None => true,
        }
    }

    fn at_hand(&self) -> Option<Secret> {
        let now = Moment::now();
        let mut current = self.current();
        let kept = current.as_mut()?;
        if kept.ends_at.is_some_and(|ends_at| ends_at <= now) {
            return None;
        }
        if kept.renew_at.is_some_and(|renew_at| renew_at <= now) {
            kept.renew_at = Some(now.plus(PAUSE));
            let tokens = self.clone();
            // The one at hand is still good, so a failure is nobody's yet.
            tokio::spawn(async move { drop(tokens.fetch().await) });
        }
        Some(kept.text.clone())
    }

    async fn fetch(&self) -> Result<Secret> {
        let asked = Moment::now();
        let token = self.timely(async { self.source().await?.token().await }).await?;
        let current = Current::new(token, asked);
        let text = current.text.clone();
        *self.current() = Some(current);
        Ok(text)
    }

    async fn timely<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::time::timeout(self.0.timeout, work).await.unwrap_or_else(|_| {
            Err(Error::new(Code::NetworkTimeout, "no access token for Firestore came within connectTimeoutMs; check the way to the token server")
                .retryable())
        })
    }

    async fn source(&self) -> Result<Arc<dyn TokenSource>> {
        let mut source = self.0.source.lock().await;
        if let Some(source) = source.as_ref() {
            return Ok(Arc::clone(source));
        }
        let found: Arc<dyn TokenSource> = match &self.0.credentials {
            // What the emulator takes for an administrator, as Google's own clients send it.
            Credentials::Emulator => Arc::new(Given(Password::Fixed(Secret::new("owner")))),
            Credentials::Token(password) => Arc::new(Given(password.clone())),
            Credentials::Pair { email, key } => {
                Arc::new(service_account::ServiceAccount::new(email.clone(), key)?)
            }
            Credentials::File(path) => file::read(path.clone()).await?,
            Credentials::Default => match file::find().await? {
                Some(source) => source,
                None => Arc::new(metadata::MetadataServer::from_environment()),
            },
        };
        *source = Some(Arc::clone(&found));
        Ok(found)
    }

    fn current(&self) -> MutexGuard<'_, Option<Current>> {
        self.0.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Current {
    fn new(token: Token, asked: Moment) -> Current {
        let renew_at = token.lifetime.map(|life| asked.plus(life.saturating_sub(AHEAD.min(life / 4))));
        // A token that ends on its way is refused.
        let ends_at = token.lifetime.map(|life| asked.plus(life - life / 20));
        Current { text: token.text, fetched: asked, renew_at, ends_at }
    }
}

/// A token, or a function that answers one, as the user gave it.
#[derive(Debug)]
struct Given(Password);

#[async_trait]
impl TokenSource for Given {
    async fn token(&self) -> Result<Token> {
        let text = self.0.get().await?.ok_or_else(|| {
            Error::new(
                Code::AuthFailed,
                "the access token for Firestore is empty; it must be an OAuth 2.0 token",
            )
        })?;
        let lifetime = matches!(self.0, Password::Provider(_)).then_some(PROVIDED_FOR);
        Ok(Token { text, lifetime })
    }

    async fn project(&self) -> Result<Option<String>> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Issues numbers, or fails.
    #[derive(Debug, Default)]
    struct Numbers {
        asked: AtomicU32,
        failing: std::sync::atomic::AtomicBool,
    }

    #[async_trait]
    impl TokenSource for Numbers {
        async fn token(&self) -> Result<Token> {
            let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
            if self.failing.load(Ordering::SeqCst) {
                return Err(Error::unavailable("no token today"));
            }
            Ok(Token { text: Secret::new(number.to_string()), lifetime: Some(Duration::from_secs(3600)) })
        }

        async fn project(&self) -> Result<Option<String>> {
            Ok(None)
        }
    }

    async fn tokens() -> (Tokens, Arc<Numbers>) {
        let (tokens, numbers) =
            (Tokens::new(Credentials::Emulator, Duration::from_secs(5)), Arc::new(Numbers::default()));
        *tokens.0.source.lock().await = Some(Arc::<Numbers>::clone(&numbers));
        (tokens, numbers)
    }

    async fn settle(done: impl Fn() -> bool) {
        while !done() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn a_token_that_is_due_is_used_while_it_is_renewed_and_when_that_fails() {
        let (tokens, numbers) = tokens().await;
        assert_eq!(tokens.get().await.unwrap().reveal(), "1");
        assert_eq!(tokens.get().await.unwrap().reveal(), "1");
        let due = || tokens.current().as_mut().unwrap().renew_at = Some(Moment::now());
        numbers.failing.store(true, Ordering::SeqCst);
        due();
        assert_eq!(tokens.get().await.unwrap().reveal(), "1");
        settle(|| numbers.asked.load(Ordering::SeqCst) == 2).await;
        assert_eq!(tokens.get().await.unwrap().reveal(), "1", "and the next try is not at once");
        assert_eq!(numbers.asked.load(Ordering::SeqCst), 2);
        numbers.failing.store(false, Ordering::SeqCst);
        due();
        assert_eq!(tokens.get().await.unwrap().reveal(), "1");
        settle(|| tokens.current().as_ref().is_some_and(|kept| kept.text.reveal() == "3")).await;
        assert_eq!(tokens.get().await.unwrap().reveal(), "3");
    }

    #[tokio::test]
    async fn a_token_that_has_ended_is_not_used() {
        let (tokens, numbers) = tokens().await;
        tokens.get().await.unwrap();
        tokens.current().as_mut().unwrap().ends_at = Some(Moment::now());
        numbers.failing.store(true, Ordering::SeqCst);
        assert_eq!(tokens.get().await.unwrap_err().code(), Code::ServiceUnavailable);
        numbers.failing.store(false, Ordering::SeqCst);
        assert_eq!(tokens.get().await.unwrap().reveal(), "3");
    }

    #[tokio::test]
    async fn a_token_that_was_refused_is_fetched_anew_and_a_repeat_helps_unless_it_was_fresh() {
        let (tokens, _) = tokens().await;
        let first = tokens.get().await.unwrap();
        assert!(!tokens.refused(&first), "a fresh one says that the credentials are no good");
        let second = tokens.get().await.unwrap();
        assert_eq!(second.reveal(), "2");
        assert!(tokens.refused(&first), "somebody else has replaced it already");
        assert_eq!(tokens.get().await.unwrap().reveal(), "2");
    }

    #[test]
    fn tokens_are_renewed_ahead_of_their_end() {
        let now = Moment::now();
        for (life, ahead) in [(3600, 225), (100, 25), (0, 0)] {
            let life = Duration::from_secs(life);
            let token = Token { text: Secret::new("a"), lifetime: Some(life) };
            let current = Current::new(token, now);
            assert_eq!(current.renew_at.unwrap().since(now), life - Duration::from_secs(ahead));
            assert!(current.ends_at.unwrap() <= now.plus(life));
        }
    }
}

//! A server that issues tokens, over plain HTTP: the token endpoint and the metadata server in one.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Clone, Debug)]
pub struct Asked {
    /// Method and path.
    pub line: String,
    /// In lower case.
    pub headers: String,
    pub body: String,
}

#[derive(Default)]
struct State {
    asked: Vec<Asked>,
    replies: VecDeque<(u16, String)>,
    expires_in: u64,
    hangs: bool,
}

pub struct TokenServer {
    pub port: u16,
    state: Arc<Mutex<State>>,
}

impl TokenServer {
    /// Issues `token-1`, `token-2`, … good for that many seconds.
    pub async fn issuing(expires_in: u64) -> TokenServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("a bound address").port();
        let state = Arc::new(Mutex::new(State { expires_in, ..State::default() }));
        let serving = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&serving)));
            }
        });
        TokenServer { port, state }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/token", self.port)
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.state.lock().unwrap().asked.clone()
    }

    /// What the next request is answered with instead.
    pub fn next(&self, status: u16, body: &str) {
        self.state.lock().unwrap().replies.push_back((status, body.to_owned()));
    }

    /// From now on it accepts and says nothing.
    pub fn hang(&self) {
        self.state.lock().unwrap().hangs = true;
    }
}

async fn answer(mut stream: TcpStream, state: Arc<Mutex<State>>) -> Option<()> {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    let (head, body) = loop {
        let read = stream.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        text.push_str(std::str::from_utf8(&buffer[..read]).ok()?);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.to_ascii_lowercase().split("content-length: ").nth(1).map_or(0, |rest| {
                    rest.lines().next().and_then(|line| line.trim().parse().ok()).unwrap_or(0)
                });
            if body.len() >= length {
                break (head.to_owned(), body.to_owned());
            }
        }
    };
    let (line, headers) = head.split_once("\r\n")?;
    let asked = Asked { line: line.to_owned(), headers: headers.to_ascii_lowercase(), body };
    let (status, body) = {
        let mut state = state.lock().unwrap();
        state.asked.push(asked.clone());
        let tokens = state.asked.iter().filter(|asked| asked.line.contains("/token")).count();
        state.replies.pop_front().unwrap_or_else(|| {
            let body = if asked.line.contains("project-id") {
                "metadata-project".to_owned()
            } else {
                format!(
                    r#"{{"access_token":"token-{tokens}","expires_in":{},"token_type":"Bearer"}}"#,
                    state.expires_in
                )
            };
            (200, body)
        })
    };
    if state.lock().unwrap().hangs {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    let reply = format!(
        "HTTP/1.1 {status} status\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(reply.as_bytes()).await.ok()
}

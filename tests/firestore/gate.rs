//! Between a backend and the emulator: a relay of single gRPC calls, which counts them, notes their tokens,
//! and answers, loses or breaks off those that a test names.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// What to do with a call instead of passing it on and its reply back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// Answer with this gRPC status; the emulator never sees it.
    Refuse(i32),
    /// Pass it on, and lose the reply.
    LoseReply,
    /// Pass it on, but only after so many milliseconds.
    Delay(u64),
    /// Pass it on, and break the connection instead of replying.
    CutReply,
    /// Reset its stream with this reason; the emulator never sees it.
    Reset(h2::Reason),
}

#[derive(Default)]
struct State {
    calls: Vec<String>,
    tokens: Vec<String>,
    headers: Vec<HeaderMap>,
    faults: VecDeque<(&'static str, Fault)>,
    connections: Vec<CancellationToken>,
    leaving: Vec<CancellationToken>,
    accepted: usize,
}

pub struct Gate {
    pub port: u16,
    state: Arc<Mutex<State>>,
}

impl Gate {
    pub async fn to(emulator: &str) -> Gate {
        Gate::start(emulator, None).await
    }

    /// Over TLS, with this certificate.
    pub async fn with_tls(emulator: &str, tls: Arc<rustls::ServerConfig>) -> Gate {
        Gate::start(emulator, Some(tls.into())).await
    }

    async fn start(emulator: &str, tls: Option<TlsAcceptor>) -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("a bound address").port();
        let state = Arc::new(Mutex::new(State::default()));
        let (accepting, emulator) = (Arc::clone(&state), emulator.to_owned());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (token, leaving) = (CancellationToken::new(), CancellationToken::new());
                {
                    let mut state = accepting.lock().unwrap();
                    state.connections.push(token.clone());
                    state.leaving.push(leaving.clone());
                    state.accepted += 1;
                }
                let (state, emulator, tls) = (Arc::clone(&accepting), emulator.clone(), tls.clone());
                tokio::spawn(async move {
                    let serving = async {
                        match tls {
                            None => serve(stream, emulator, state, token.clone(), leaving).await,
                            Some(tls) => {
                                // Who does not trust the certificate breaks off.
                                let Ok(stream) = tls.accept(stream).await else { return };
                                serve(stream, emulator, state, token.clone(), leaving).await;
                            }
                        }
                    };
                    tokio::select! {
                        () = token.cancelled() => {}
                        () = serving => {}
                    }
                });
            }
        });
        Gate { port, state }
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The names of the calls since it was last asked.
    pub fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.state().calls)
    }

    /// The authorization headers since it was last asked.
    pub fn tokens(&self) -> Vec<String> {
        std::mem::take(&mut self.state().tokens)
    }

    /// A header of the last call.
    pub fn last_header(&self, name: &str) -> Option<String> {
        let state = self.state();
        Some(state.headers.last()?.get(name)?.to_str().ok()?.to_owned())
    }

    /// The next call of that name meets this fault.
    pub fn next(&self, call: &'static str, fault: Fault) {
        self.state().faults.push_back((call, fault));
    }

    /// Breaks every connection there is.
    pub fn cut(&self) {
        self.state().connections.drain(..).for_each(|connection| connection.cancel());
    }

    /// Takes no more calls on the connections there are, answers those it has, and ends them (GOAWAY).
    pub fn go_away(&self) {
        self.state().leaving.drain(..).for_each(|connection| connection.cancel());
    }

    /// How many connections there have been.
    pub fn accepted(&self) -> usize {
        self.state().accepted
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    emulator: String,
    state: Arc<Mutex<State>>,
    token: CancellationToken,
    leaving: CancellationToken,
) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    let upstream = TcpStream::connect(&emulator).await.expect("the emulator accepts");
    let (client, driver) = h2::client::handshake(upstream).await.expect("the emulator speaks HTTP/2");
    tokio::spawn(driver);
    let mut left = false;
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            () = leaving.cancelled(), if !left => {
                left = true;
                connection.graceful_shutdown();
                continue;
            }
        };
        let Some(Ok((request, respond))) = accepted else { return };
        let name = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let fault = {
            let mut state = state.lock().unwrap();
            state.calls.push(name.clone());
            state.headers.push(request.headers().clone());
            if let Some(token) = request.headers().get("authorization") {
                state.tokens.push(token.to_str().unwrap_or_default().to_owned());
            }
            let index = state.faults.iter().position(|(call, _)| *call == name);
            index.and_then(|index| state.faults.remove(index)).map(|(_, fault)| fault)
        };
        let (client, emulator, token) = (client.clone(), emulator.clone(), token.clone());
        tokio::spawn(async move {
            // A call whose caller has gone ends here, too.
            let _ = relay(request, respond, client, &emulator, fault, &token).await;
        });
    }
}

async fn relay(
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<bytes::Bytes>,
    client: h2::client::SendRequest<bytes::Bytes>,
    emulator: &str,
    fault: Option<Fault>,
    token: &CancellationToken,
) -> Result<(), h2::Error> {
    if let Some(Fault::Refuse(status)) = fault {
        let reply = Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", HeaderValue::from(status))
            .header("grpc-message", "canary")
            .body(())
            .expect("a response");
        respond.send_response(reply, true)?;
        return Ok(());
    }
    if let Some(Fault::Reset(reason)) = fault {
        respond.send_reset(reason);
        return Ok(());
    }
    if let Some(Fault::Delay(millis)) = fault {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
    let (mut head, mut incoming) = request.into_parts();
    head.uri = format!("http://{emulator}{}", head.uri.path()).parse().expect("a URI");
    // Whoever these tests say they are, to the emulator they are its administrator.
    head.headers.insert("authorization", HeaderValue::from_static("Bearer owner"));
    let mut client = client.ready().await?;
    let (reply, mut outgoing) = client.send_request(Request::from_parts(head, ()), false)?;
    let sending = tokio::spawn(async move {
        while let Some(Ok(data)) = incoming.data().await {
            let _ = incoming.flow_control().release_capacity(data.len());
            if outgoing.send_data(data, false).is_err() {
                return;
            }
        }
        let _ = outgoing.send_data(bytes::Bytes::new(), true);
    });
    let reply = reply.await?;
    match fault {
        Some(Fault::LoseReply) => std::future::pending::<()>().await,
        Some(Fault::CutReply) => {
            token.cancel();
            return Ok(());
        }
        _ => {}
    }
    let (head, mut body) = reply.into_parts();
    let mut back = respond.send_response(Response::from_parts(head, ()), body.is_end_stream())?;
    while let Some(data) = body.data().await {
        let data = data?;
        let _ = body.flow_control().release_capacity(data.len());
        back.send_data(data, false)?;
    }
    match body.trailers().await? {
        Some(trailers) => back.send_trailers(trailers)?,
        None => back.send_data(bytes::Bytes::new(), true)?,
    }
    sending.abort();
    Ok(())
}

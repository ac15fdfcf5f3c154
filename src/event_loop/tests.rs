//! Over a loop that can be blocked, with real sockets.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::*;
use crate::stores::net::socket::Socket;

const LONG: Duration = Duration::from_secs(20);

fn poller() -> Poller {
    Poller::start(Handle::current())
}

async fn outcome<T>(answered: oneshot::Receiver<(T, bool)>) -> (T, bool) {
    tokio::time::timeout(LONG, answered).await.expect("it ends").expect("it is not dropped")
}

/// A socket, and the other side, which is the engine's.
async fn connected() -> (Socket, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (Socket::from(own), listener.accept().await.unwrap().0)
}

/// Reads so many bytes and answers them with the socket.
async fn read(mut socket: Socket, count: usize) -> (Vec<u8>, Socket) {
    let mut bytes = vec![0; count];
    stay(socket.read_exact(&mut bytes)).await.unwrap();
    (bytes, socket)
}

/// Until what was begun before has been polled.
async fn begun(poller: &Poller) {
    assert_eq!(outcome(poller.call(async {})).await, ((), true));
}

#[tokio::test]
async fn a_call_that_waits_for_nothing_ends_where_it_began() {
    let poller = poller();
    assert_eq!(outcome(poller.call(async { 1 })).await, (1, true));
    assert!(!poller.executor().is_busy());
}

#[tokio::test]
async fn a_call_stays_for_what_comes_to_the_loop_and_leaves_for_anything_else() {
    let poller = poller();
    let (tell, told) = oneshot::channel();
    let stays = poller.call(stay(told));
    begun(&poller).await;
    tell.send(1).unwrap();
    assert_eq!(outcome(stays).await, (Ok(1), true));
    let (tell, told) = oneshot::channel();
    let leaves = poller.call(told);
    begun(&poller).await;
    tell.send(2).unwrap();
    assert_eq!(outcome(leaves).await, (Ok(2), false));
    assert_eq!(outcome(poller.call(leave())).await, ((), false));
    let tries = poller.call(async {
        yield_now().await;
        1
    });
    assert_eq!(outcome(tries).await, (1, true));
}

#[tokio::test]
async fn what_is_spawned_there_runs_there() {
    let poller = poller();
    let call = poller.call(async {
        let (tell, told) = oneshot::channel();
        assert!(spawn(async move {
            let _ = tell.send(is_here());
        }));
        stay(told).await
    });
    assert_eq!(outcome(call).await, (Ok(true), true));
    assert!(!is_here());
}

#[tokio::test]
async fn a_socket_is_read_and_written_on_the_loop() {
    let (poller, (own, mut other)) = (poller(), connected().await);
    let call = poller.call(async move {
        let mut own = own;
        own.write_all(b"ask").await.unwrap();
        read(own, 6).await.0
    });
    let mut asked = [0; 3];
    other.read_exact(&mut asked).await.unwrap();
    assert_eq!(&asked, b"ask");
    other.write_all(b"answer").await.unwrap();
    assert_eq!(outcome(call).await, (b"answer".to_vec(), true));
    assert_eq!(other.read(&mut asked).await.unwrap(), 0);
}

#[tokio::test]
async fn the_end_of_a_connection_is_heard_at_once_though_the_loop_closes_its_share_later() {
    let (poller, (own, mut other)) = (poller(), connected().await);
    let (tell, told) = oneshot::channel();
    let call = poller.call(async move {
        let mut own = own;
        own.write_all(b"ask").await.unwrap();
        drop(own);
        let _ = tell.send(());
        std::thread::sleep(Duration::from_secs(2));
    });
    told.await.unwrap();
    let since = Instant::now();
    let mut asked = Vec::new();
    other.read_to_end(&mut asked).await.unwrap();
    assert!(asked == b"ask" && since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    outcome(call).await;
}

#[tokio::test]
async fn more_than_a_socket_takes_at_once_is_written_on_the_loop() {
    const SIZE: usize = 8 << 20;
    let (poller, (own, mut other)) = (poller(), connected().await);
    let call = poller.call(async move {
        let mut own = own;
        let bytes: Vec<u8> = (0..SIZE).map(|n| u8::try_from(n % 251).unwrap()).collect();
        stay(own.write_all(&bytes)).await.unwrap();
        read(own, 1).await.0
    });
    let mut bytes = vec![0; SIZE];
    other.read_exact(&mut bytes).await.unwrap();
    assert!(bytes.iter().enumerate().all(|(n, byte)| usize::from(*byte) == n % 251));
    other.write_all(b"!").await.unwrap();
    assert_eq!(outcome(call).await, (b"!".to_vec(), true));
}

#[tokio::test]
async fn what_is_under_way_on_a_blocked_loop_goes_on_with_the_engine() {
    let (poller, (own, mut other)) = (poller(), connected().await);
    let call = poller.call(read(own, 9));
    other.write_all(b"one, ").await.unwrap();
    begun(&poller).await;
    poller.block(Duration::from_secs(2));
    let since = Instant::now();
    other.write_all(b"two!").await.unwrap();
    poller.executor().pass_on();
    let ((bytes, mut socket), here) = outcome(call).await;
    assert_eq!((bytes.as_slice(), here), (b"one, two!".as_slice(), false));
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    assert!(!poller.executor().is_busy());
    // The socket is the engine's for good, also when the loop runs again.
    socket.write_all(b"ask").await.unwrap();
    let mut asked = [0; 3];
    other.read_exact(&mut asked).await.unwrap();
    begun(&poller).await;
    other.write_all(b"answer").await.unwrap();
    assert_eq!(read(socket, 6).await.0, b"answer");
}

#[tokio::test]
async fn what_is_under_way_at_the_end_of_the_loop_goes_on_with_the_engine() {
    let (poller, (own, mut other)) = (poller(), connected().await);
    let call = poller.call(read(own, 3));
    begun(&poller).await;
    let executor = std::sync::Arc::clone(poller.executor());
    drop(poller);
    other.write_all(b"yes").await.unwrap();
    let ((bytes, _), here) = outcome(call).await;
    assert_eq!((bytes.as_slice(), here), (b"yes".as_slice(), false));
    let (tell, told) = oneshot::channel();
    executor.spawn(async move {
        let _ = tell.send(is_here());
    });
    assert_eq!(tokio::time::timeout(LONG, told).await.unwrap(), Ok(false), "nothing begins there any more");
}

#[tokio::test]
async fn a_deadline_needs_no_other_thread() {
    let poller = poller();
    let since = Instant::now();
    let call = poller.call(async {
        let until = tokio::time::Instant::now() + Duration::from_millis(30);
        timeout_at(until, stay(std::future::pending::<()>())).await.is_err()
    });
    assert_eq!(outcome(call).await, (true, true));
    assert!(since.elapsed() >= Duration::from_millis(30));
}

#[tokio::test]
async fn a_deadline_goes_with_its_call() {
    let poller = poller();
    let call = poller.call(async {
        let until = tokio::time::Instant::now() + Duration::from_millis(30);
        timeout_at(until, std::future::pending::<()>()).await.is_err()
    });
    assert_eq!(outcome(call).await, (true, false));
}

#[tokio::test]
async fn a_reply_that_lies_there_is_in_time_however_long_the_loop_was_blocked() {
    let (poller, (own, mut other)) = (poller(), connected().await);
    let call = poller.call(async move {
        let until = tokio::time::Instant::now() + Duration::from_millis(100);
        timeout_at(until, read(own, 3)).await.is_ok()
    });
    poller.block(Duration::from_millis(400));
    other.write_all(b"yes").await.unwrap();
    assert_eq!(outcome(call).await, (true, true));
}

#[tokio::test]
async fn what_lies_in_a_socket_is_read_before_a_deadline_that_has_just_passed() {
    let (poller, (own, mut other)) = (poller(), connected().await);
    let call = poller.call(async move {
        let until = tokio::time::Instant::now() + Duration::from_millis(100);
        timeout_at(until, read(own, 3)).await.is_ok()
    });
    begun(&poller).await;
    // Not late enough for any time to be given back.
    poller.post(|_| std::thread::sleep(Duration::from_millis(105)));
    other.write_all(b"yes").await.unwrap();
    assert_eq!(outcome(call).await, (true, true));
}

#[tokio::test]
async fn time_in_which_the_loop_was_blocked_is_given_back() {
    let (poller, (own, mut other)) = (poller(), connected().await);
    let call = poller.call(async move {
        let until = tokio::time::Instant::now() + Duration::from_millis(100);
        timeout_at(until, read(own, 3)).await.is_ok()
    });
    poller.block(Duration::from_millis(900));
    // After the end of that, and long after the deadline.
    begun(&poller).await;
    other.write_all(b"yes").await.unwrap();
    assert_eq!(outcome(call).await, (true, true));
}

#[tokio::test]
async fn a_panic_ends_its_task_alone() {
    let poller = poller();
    let (tell, told) = oneshot::channel::<()>();
    poller.executor().spawn(async move {
        let _tell = tell;
        panic!("a bug");
    });
    assert!(tokio::time::timeout(LONG, told).await.unwrap().is_err());
    assert_eq!(outcome(poller.call(async { 1 })).await, (1, true));
    assert!(!poller.executor().is_busy());
}

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::*;
use crate::base::secret::Secret;

const LONG: Duration = Duration::from_secs(120);

const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// Reads the head of a request.
fn head(stream: &mut impl Read) -> String {
    let (mut text, mut byte) = (String::new(), [0]);
    while !text.ends_with("\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) > 0 {
        text.push(char::from(byte[0]));
    }
    text
}

/// Gives these answers, each on a connection of its own that it then closes; the requests.
fn answering(answers: Vec<String>) -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let request = head(&mut stream);
            stream.write_all(answer.as_bytes()).unwrap();
            if sender.send(request).is_err() {
                return;
            }
        }
    });
    (addr, receiver)
}

fn client(addr: SocketAddr, token: Option<&str>) -> AdminClient {
    AdminClient::new(addr.into(), token.map(|token| Secret::new(token.to_owned())))
}

fn json(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// A chunk of an answer that goes on.
fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// What becomes of a subscription, as it is told.
async fn told(answer: &str) -> String {
    let (addr, _requests) = answering(vec![answer.to_owned()]);
    let error = client(addr, None).subscribe("/events", None, LONG).await.err().unwrap();
    error.to_string().replace(&addr.to_string(), "ADDR")
}

#[tokio::test]
async fn a_request_says_who_asks_for_what() {
    let (addr, requests) = answering(vec![json("200 OK", r#"{"ok":true,"msg":"state is drain"}"#)]);
    let answer = client(addr, Some("secret")).post("/worker-state.do?group=1").await.unwrap();
    assert_eq!(answer["msg"], "state is drain");
    let request = requests.recv().unwrap().to_lowercase();
    assert!(request.starts_with("post /worker-state.do?group=1 http/1.1\r\n"), "{request}");
    for line in [format!("host: {addr}"), "authorization: bearer secret".to_owned(), "content-length: 0".to_owned()] {
        assert!(request.contains(&format!("\r\n{line}\r\n")), "{line}: {request}");
    }
}

#[tokio::test]
async fn a_refusal_is_told_in_the_words_of_the_proxy() {
    let unauthorized = r#"{"ok":false,"code":"unauthorized","msg":"Authorization: no token"}"#;
    let said = told(&json("401 Unauthorized", unauthorized)).await;
    assert_eq!(said, "ADDR: refused: Authorization: no token (see --token)");
    let unknown = r#"{"ok":false,"code":"group_not_found","msg":"no group \u001b[31mx"}"#;
    assert_eq!(told(&json("404 Not Found", unknown)).await, "ADDR: refused: no group \u{fffd}[31mx");
}

#[tokio::test]
async fn who_is_no_goproxy_is_told_as_such() {
    for (answer, what) in [
        (
            "HTTP/1.1 404 Not Found\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\nno",
            "answers 404 with \"text/html\"",
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", "answers 200 with \"\""),
        ("SSH-2.0-OpenSSH_9.2\r\n", "it does not speak HTTP"),
    ] {
        let said = told(answer).await;
        assert!(said.starts_with("ADDR: this is not the admin port of a goproxy: it"), "{said}");
        assert!(said.contains(what), "{said}");
    }
    assert_eq!(told("").await, "ADDR: the connection broke");
}

/// It may come before the request or after it.
#[tokio::test]
async fn a_server_that_greets_is_no_goproxy() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept() {
            stream.write_all(b"220 mail.example.org ESMTP\r\n").unwrap();
            kept.push(stream);
        }
    });
    for _ in 0..20 {
        let error = client(addr, None).post("/x").await.unwrap_err();
        assert!(error.to_string().ends_with("a goproxy: it does not speak HTTP"), "{error:?}");
    }
}

#[tokio::test]
async fn nobody_there_is_an_error_that_names_the_place() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let error = client(addr, None).post("/x").await.unwrap_err();
    let expected = "cannot connect: connection refused; expected the admin port of a running goproxy";
    assert_eq!(error.to_string(), format!("{addr}: {expected}"));
    assert!(error.is_passing());
}

#[tokio::test]
async fn a_unix_socket_is_asked_as_a_port_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let request = head(&mut stream);
        let body = serde_json::json!({ "ok": true, "msg": request }).to_string();
        stream.write_all(json("200 OK", &body).as_bytes()).unwrap();
    });
    let client = AdminClient::new(AdminAddr::Unix(path), None);
    let answer = client.post("/x").await.unwrap();
    assert!(answer["msg"].as_str().unwrap().contains("host: localhost\r\n"), "{answer}");
}

#[tokio::test]
async fn silence_for_too_long_is_an_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (done, wait) = mpsc::channel::<()>();
    thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        head(&mut stream);
        stream.write_all([STREAM, &chunk("data: 1\n\n")].concat().as_bytes()).unwrap();
        let _ = wait.recv();
    });
    let mut subscription = client(addr, None).subscribe("/events", None, Duration::from_millis(300)).await.unwrap();
    assert_eq!(subscription.next().await.unwrap().unwrap().data, "1");
    assert!(matches!(subscription.next().await, Err(AskError::Silent { .. })));
    drop(done);
}

#[tokio::test]
async fn whoever_follows_asks_for_what_it_has_not_seen_when_the_proxy_is_back() {
    let stopping = r#"{"ok":false,"code":"stopping","msg":"the proxy is stopping"}"#;
    let gone = r#"{"ok":false,"code":"group_not_found","msg":"no such group"}"#;
    let (addr, requests) = answering(vec![
        [STREAM, &chunk("id: 7\nevent: a\ndata: 1\n\n"), &chunk("id: 8\nevent: b\ndata: 2\n\nid: 9\nda")].concat(),
        json("503 Service Unavailable", stopping),
        [STREAM, &chunk("id: 9\nevent: c\ndata: 3\n\n"), "0\r\n\r\n"].concat(),
        json("404 Not Found", gone),
    ]);
    let mut follow = Follow::new(client(addr, None), "/events".to_owned(), Some(6), LONG);
    let mut seen = Vec::new();
    let end = loop {
        match follow.next().await {
            Ok(Told::Message(message)) => seen.push(message.id.unwrap().to_string()),
            Ok(Told::Connected) => seen.push("connected".to_owned()),
            Ok(Told::Lost(_)) => seen.push("lost".to_owned()),
            Err(error) => break error,
        }
    };
    assert_eq!(seen, ["connected", "7", "8", "lost", "lost", "connected", "9", "lost"]);
    assert!(end.to_string().ends_with("refused: no such group"), "{end}");
    let ids: Vec<String> = requests
        .iter()
        .filter_map(|request| Some(request.split_once("last-event-id: ")?.1.split('\r').next()?.to_owned()))
        .collect();
    assert_eq!(ids, ["6", "8", "8", "9"]);
}

#[tokio::test]
async fn the_first_attempt_is_not_repeated() {
    let full = r#"{"ok":false,"code":"too_many_viewers","msg":"the admin port has 32 viewers"}"#;
    let (addr, _requests) = answering(vec![json("503 Service Unavailable", full)]);
    let mut follow = Follow::new(client(addr, None), "/events".to_owned(), None, LONG);
    assert!(matches!(follow.next().await, Err(AskError::Refused { status: 503, .. })));
}

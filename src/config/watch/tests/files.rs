//! What the watch promises of a set of files.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::SystemTime;

use super::*;
use crate::events::{Bus, PolicyEvent};

type Contents = BTreeMap<PathBuf, String>;

/// A watch on a set of files, and what they held at each call.
struct TestSet {
    paths: Arc<Mutex<Vec<PathBuf>>>,
    /// Its own: on that of the process other tests publish.
    bus: Bus,
    calls: mpsc::UnboundedReceiver<Contents>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl TestSet {
    /// Watches `paths` and waits for the call that comes at once.
    async fn start(paths: &[PathBuf]) -> Self {
        let paths = Arc::new(Mutex::new(paths.to_vec()));
        let (sender, calls) = mpsc::unbounded_channel();
        let (bus, shutdown) = (Bus::new(8), CancellationToken::new());
        let (asked, read) = (Arc::clone(&paths), Arc::clone(&paths));
        let on_change = move || {
            let paths = read.lock().unwrap().clone();
            let contents = paths.into_iter().filter_map(|path| Some((path.clone(), fs::read_to_string(path).ok()?)));
            let _ = sender.send(contents.collect());
            async {}
        };
        let asked = move || asked.lock().unwrap().clone();
        let others = Others { changes: bus.subscribe(), is_meant: |_| true };
        let task = tokio::spawn(watch_files(asked, on_change, others, shutdown.clone()));
        let mut started = Self { paths, bus, calls, shutdown, task };
        started.next().await;
        started
    }

    fn set(&self, paths: &[PathBuf]) {
        *self.paths.lock().unwrap() = paths.to_vec();
        self.bus.send(events::Event::Policy(PolicyEvent::FilesChanged), SystemTime::now());
    }

    /// What the files held at the next call.
    async fn next(&mut self) -> Contents {
        tokio::time::timeout(GENEROUS, self.calls.recv()).await.expect("there is a call").expect("the watch goes on")
    }

    /// Waits for a call at which this file had this content, or was not there.
    async fn sees(&mut self, path: &Path, expected: Option<&str>) {
        while self.next().await.get(path).map(String::as_str) != expected {}
    }

    async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(GENEROUS, self.task).await.expect("it ends").unwrap();
    }
}

/// A folder and two paths in it; the first is a file.
fn folder_with_two() -> (TempDir, PathBuf, PathBuf) {
    let folder = TempDir::new().unwrap();
    let (first, second) = (folder.path().join("first.wasm"), folder.path().join("second.wat"));
    fs::write(&first, "first").unwrap();
    (folder, first, second)
}

fn stamps(paths: &Arc<Mutex<Vec<PathBuf>>>) -> Watched<impl Subject> {
    let paths = Arc::clone(paths);
    let paths = move || paths.lock().unwrap().clone();
    Watched::new(Stamps::new(paths))
}

#[tokio::test]
async fn a_file_that_appears_is_replaced_changes_or_goes_is_noticed() {
    let (_folder, first, second) = folder_with_two();
    let mut watch = TestSet::start(&[first.clone(), second.clone()]).await;
    fs::write(&second, "appeared").unwrap();
    watch.sees(&second, Some("appeared")).await;
    write_by_rename(&second, "replaced");
    watch.sees(&second, Some("replaced")).await;
    fs::write(&first, "in place").unwrap();
    watch.sees(&first, Some("in place")).await;
    fs::remove_file(&second).unwrap();
    watch.sees(&second, None).await;
    write_by_rename(&second, "back");
    watch.sees(&second, Some("back")).await;
    watch.stop().await;
}

#[tokio::test]
async fn a_folder_that_is_made_later_is_watched_then() {
    let (folder, first, _) = folder_with_two();
    let deep = folder.path().join("a/b");
    let late = deep.join("late.wasm");
    let mut watch = TestSet::start(&[first.clone(), late.clone()]).await;
    for n in 1..=2 {
        fs::create_dir_all(&deep).unwrap();
        fs::write(&late, format!("made {n}")).unwrap();
        watch.sees(&late, Some(&format!("made {n}"))).await;
        fs::write(&late, format!("and in place {n}")).unwrap();
        watch.sees(&late, Some(&format!("and in place {n}"))).await;
        fs::remove_dir_all(folder.path().join("a")).unwrap();
        watch.sees(&late, None).await;
    }
    fs::write(&first, "still watched").unwrap();
    watch.sees(&first, Some("still watched")).await;
    watch.stop().await;
}

#[tokio::test]
async fn a_swapped_link_to_a_file_or_a_folder_is_noticed() {
    let (folder, first, second) = folder_with_two();
    let root = folder.path();
    for version in ["v1", "v2"] {
        fs::create_dir(root.join(version)).unwrap();
        fs::write(root.join(version).join("module.wasm"), version).unwrap();
    }
    let swap = |target: &str, link: &Path| {
        symlink(target, root.join("new")).unwrap();
        fs::rename(root.join("new"), link).unwrap();
    };
    let behind = root.join("current/module.wasm");
    swap("v1", &root.join("current"));
    swap("v1/module.wasm", &second);
    let mut watch = TestSet::start(&[first, second.clone(), behind.clone()]).await;
    swap("v2", &root.join("current"));
    watch.sees(&behind, Some("v2")).await;
    swap("v2/module.wasm", &second);
    watch.sees(&second, Some("v2")).await;
    fs::write(root.join("v2/module.wasm"), "behind both").unwrap();
    watch.sees(&second, Some("behind both")).await;
    watch.stop().await;
}

#[tokio::test]
async fn a_file_that_joins_the_set_is_looked_at_and_watched_from_then_on() {
    let (_folder, first, second) = folder_with_two();
    let elsewhere = TempDir::new().unwrap();
    let third = elsewhere.path().join("third.wasm");
    fs::write(&third, "was there").unwrap();
    let mut watch = TestSet::start(&[]).await;
    watch.set(std::slice::from_ref(&first));
    watch.sees(&first, Some("first")).await;
    watch.set(&[first.clone(), third.clone()]);
    watch.sees(&third, Some("was there")).await;
    fs::write(&third, "changed").unwrap();
    watch.sees(&third, Some("changed")).await;
    watch.set(&[second.clone(), third.clone()]);
    watch.sees(&second, None).await;
    write_by_rename(&second, "appeared");
    watch.sees(&second, Some("appeared")).await;
    watch.stop().await;
}

#[test]
fn a_file_that_left_the_set_is_watched_no_more() {
    let (_folder, first, _) = folder_with_two();
    let elsewhere = TempDir::new().unwrap();
    let third = elsewhere.path().canonicalize().unwrap().join("third.wasm");
    let paths = Arc::new(Mutex::new(vec![first.clone(), third.clone()]));
    let mut set = stamps(&paths);
    assert!(set.look(Cause::Event));
    assert!(set.folders.len() == 2 && set.relevant.load().contains(&third));
    paths.lock().unwrap().pop();
    assert!(set.look(Cause::Event));
    assert!(set.folders.len() == 1 && !set.relevant.load().contains(&third));
    paths.lock().unwrap().clear();
    assert!(set.look(Cause::Event));
    assert!(set.folders.is_empty() && !set.is_blind);
}

#[tokio::test]
async fn what_happens_to_other_files_and_who_reads_is_no_reason_to_call() {
    let (folder, first, second) = folder_with_two();
    let other = folder.path().join("other.wasm");
    let mut watch = TestSet::start(&[first.clone(), second]).await;
    // Of the same folder: what it has heard of, the other one has heard of too.
    let mut witness = TestSet::start(std::slice::from_ref(&other)).await;
    for n in 1..=3 {
        assert_eq!(fs::read_to_string(&first).unwrap(), "first");
        write_by_rename(&other, &n.to_string());
        witness.sees(&other, Some(&n.to_string())).await;
        assert!(watch.calls.try_recv().is_err(), "a call without a change");
    }
    fs::write(&first, "changed").unwrap();
    watch.sees(&first, Some("changed")).await;
    watch.stop().await;
    witness.stop().await;
}

#[tokio::test]
async fn files_that_change_at_once_are_all_seen_in_a_few_calls() {
    let folder = TempDir::new().unwrap();
    let paths: Vec<PathBuf> = (0..200).map(|n| folder.path().join(format!("{n}.wasm"))).collect();
    let mut watch = TestSet::start(&paths).await;
    paths.iter().for_each(|path| write_by_rename(path, "new"));
    let mut calls = 1;
    while watch.next().await.len() < paths.len() {
        calls += 1;
    }
    assert!(calls < 20, "{calls} calls for one batch");

    fs::write(&paths[0], "both").unwrap();
    fs::write(&paths[1], "both").unwrap();
    let is_both = |contents: &Contents| [&paths[0], &paths[1]].iter().all(|path| contents[*path] == "both");
    while !is_both(&watch.next().await) {}
    watch.stop().await;
}

#[test]
fn by_polling_another_stamp_is_a_change_and_by_an_event_everything_is() {
    let (_folder, first, second) = folder_with_two();
    let mut set = blind(stamps(&Arc::new(Mutex::new(vec![first.clone(), second.clone()]))));
    assert!(set.look(Cause::Event), "the first look always is");
    assert!(set.look(Cause::Event) && !set.look(Cause::Poll));
    fs::write(&second, "appeared").unwrap();
    assert!(set.look(Cause::Poll) && !set.look(Cause::Poll));
    write_by_rename(&first, "first");
    assert!(set.look(Cause::Poll), "the same content, but another file");
    fs::remove_file(&second).unwrap();
    assert!(set.look(Cause::Poll) && !set.look(Cause::Poll));
    fs::create_dir(&second).unwrap();
    assert!(!set.look(Cause::Poll), "a folder does not count as a file");
}

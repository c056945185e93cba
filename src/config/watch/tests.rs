use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::sync::atomic::Ordering::Relaxed;

use tempfile::TempDir;
use tokio::sync::mpsc;
use xxhash_rust::xxh3::xxh3_64;

use super::links::Way;
use super::*;

mod files;

/// Well below [`POLL`], so that what is seen in time was seen by events.
const GENEROUS: Duration = Duration::from_secs(120);

/// A watch on a real file, and what its owner read at each change.
struct TestWatch {
    contents: mpsc::UnboundedReceiver<String>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl TestWatch {
    /// Watches `path` and waits for the call that comes at once.
    async fn start(path: &Path) -> Self {
        let mut started = Self::start_with(path, |path| watched(path, Arc::default()));
        started.sees("first").await;
        started
    }

    fn start_with(path: &Path, make: impl FnOnce(PathBuf) -> Watched<Content>) -> Self {
        let (sender, contents) = mpsc::unbounded_channel();
        let shutdown = CancellationToken::new();
        let (token, path) = (shutdown.clone(), path.to_owned());
        let watched = make(path.clone());
        let task = tokio::spawn(async move {
            let on_change = || {
                let (sender, path) = (sender.clone(), path.clone());
                async move {
                    let _ = sender.send(fs::read_to_string(path).unwrap_or_default());
                }
            };
            follow(watched, on_change, None, &token).await;
        });
        Self { contents, shutdown, task }
    }

    /// Waits for a change after which the file had this content.
    async fn sees(&mut self, expected: &str) {
        let seen = async { while self.contents.recv().await.expect("the watch goes on") != expected {} };
        assert!(tokio::time::timeout(GENEROUS, seen).await.is_ok(), "\"{expected}\" was not noticed");
    }

    async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(GENEROUS, self.task).await.expect("it ends").unwrap();
    }
}

fn watched(path: PathBuf, last_read: Arc<AtomicU64>) -> Watched<Content> {
    Watched::new(Content::new(path, last_read))
}

/// As if the system had no watches left.
fn blind<S>(watched: Watched<S>) -> Watched<S> {
    Watched { watcher: None, is_blind: true, ..watched }
}

fn folder_with(content: &str) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("proxy.json");
    fs::write(&path, content).unwrap();
    (folder, path)
}

fn write_by_rename(path: &Path, content: &str) {
    let new = path.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::rename(new, path).unwrap();
}

#[tokio::test]
async fn the_public_function_runs_on_a_task_and_ends_with_its_token() {
    let (_folder, path) = folder_with("first");
    let (sender, mut calls) = mpsc::channel(1);
    let shutdown = CancellationToken::new();
    let on_change = move || {
        let sender = sender.clone();
        async move { sender.send(()).await.unwrap() }
    };
    let task = tokio::spawn(watch_file(path, Arc::default(), on_change, shutdown.clone()));
    tokio::time::timeout(GENEROUS, calls.recv()).await.unwrap().unwrap();
    shutdown.cancel();
    tokio::time::timeout(GENEROUS, task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_write_in_place_and_a_rename_are_noticed() {
    let (_folder, path) = folder_with("first");
    let mut watch = TestWatch::start(&path).await;
    fs::write(&path, "in place").unwrap();
    watch.sees("in place").await;
    write_by_rename(&path, "renamed");
    watch.sees("renamed").await;
    fs::write(&path, "in place again").unwrap();
    watch.sees("in place again").await;
    watch.stop().await;
}

#[tokio::test]
async fn the_last_of_many_quick_writes_is_noticed() {
    let (_folder, path) = folder_with("first");
    let mut watch = TestWatch::start(&path).await;
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    for n in 1..=300 {
        ticks.tick().await;
        if n % 2 == 0 {
            fs::write(&path, n.to_string()).unwrap();
        } else {
            write_by_rename(&path, &n.to_string());
        }
    }
    assert!(watch.contents.try_recv().is_ok(), "a writer without a pause is read all the same");
    fs::write(&path, "last").unwrap();
    watch.sees("last").await;
    watch.stop().await;
}

#[tokio::test]
async fn a_file_that_grows_in_pieces_is_noticed_when_it_is_whole() {
    let (_folder, path) = folder_with("first");
    let mut watch = TestWatch::start(&path).await;
    let mut file = File::create(&path).unwrap();
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    for piece in "slowly in pieces".as_bytes().chunks(3) {
        ticks.tick().await;
        file.write_all(piece).unwrap();
    }
    watch.sees("slowly in pieces").await;
    watch.stop().await;
}

#[tokio::test]
async fn a_deleted_file_changes_nothing_and_its_return_is_noticed() {
    let (_folder, path) = folder_with("first");
    let mut watch = TestWatch::start(&path).await;
    fs::remove_file(&path).unwrap();
    fs::write(&path, "back").unwrap();
    watch.sees("back").await;
    watch.stop().await;

    let mut file = watched(path.clone(), Arc::default());
    assert!(file.look(Cause::Event));
    fs::remove_file(&path).unwrap();
    assert!(!file.look(Cause::Event) && !file.look(Cause::Poll));
    fs::write(&path, "back").unwrap();
    assert!(!file.look(Cause::Event), "the same content as before");
}

#[tokio::test]
async fn a_folder_that_is_deleted_and_made_again_is_watched_again() {
    let (folder, _) = folder_with("");
    let deep = folder.path().join("a/b");
    let path = deep.join("proxy.json");
    fs::create_dir_all(&deep).unwrap();
    fs::write(&path, "first").unwrap();
    let mut watch = TestWatch::start(&path).await;
    for n in 1..=3 {
        fs::remove_dir_all(folder.path().join("a")).unwrap();
        fs::create_dir_all(&deep).unwrap();
        fs::write(&path, format!("again {n}")).unwrap();
        watch.sees(&format!("again {n}")).await;
        fs::write(&path, format!("and in place {n}")).unwrap();
        watch.sees(&format!("and in place {n}")).await;
    }
    watch.stop().await;
}

#[tokio::test]
async fn a_swapped_link_is_noticed_as_kubernetes_does_it() {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    let path = root.join("proxy.json");
    let publish = |version: &str, content: &str| {
        fs::create_dir(root.join(version)).unwrap();
        fs::write(root.join(version).join("proxy.json"), content).unwrap();
        symlink(version, root.join("..data_tmp")).unwrap();
        fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    };
    publish("..v1", "first");
    symlink("..data/proxy.json", &path).unwrap();
    let mut watch = TestWatch::start(&path).await;
    publish("..v2", "second");
    fs::remove_dir_all(root.join("..v1")).unwrap();
    watch.sees("second").await;
    publish("..v3", "third");
    watch.sees("third").await;
    fs::write(root.join("..v3/proxy.json"), "edited behind the links").unwrap();
    watch.sees("edited behind the links").await;
    watch.stop().await;
}

#[tokio::test]
async fn a_link_among_the_folders_above_and_a_chain_of_links_are_followed() {
    let (folder, real) = folder_with("first");
    let root = folder.path();
    for name in ["one", "two", "entry"] {
        fs::create_dir(root.join(name)).unwrap();
    }
    // entry/current → ../one, one/proxy.json → two/link.json → proxy.json at the top.
    symlink("../one", root.join("entry/current")).unwrap();
    symlink(root.join("two/link.json"), root.join("one/proxy.json")).unwrap();
    symlink("../proxy.json", root.join("two/link.json")).unwrap();
    let mut watch = TestWatch::start(&root.join("entry/current/proxy.json")).await;

    write_by_rename(&real, "at the end of the chain");
    watch.sees("at the end of the chain").await;

    fs::write(root.join("other.json"), "another target").unwrap();
    symlink("../other.json", root.join("two/new")).unwrap();
    fs::rename(root.join("two/new"), root.join("two/link.json")).unwrap();
    watch.sees("another target").await;

    fs::create_dir(root.join("three")).unwrap();
    fs::write(root.join("three/proxy.json"), "another folder").unwrap();
    symlink("../three", root.join("entry/new")).unwrap();
    fs::rename(root.join("entry/new"), root.join("entry/current")).unwrap();
    watch.sees("another folder").await;
    watch.stop().await;
}

#[tokio::test]
async fn without_events_the_file_is_polled() {
    let (_folder, path) = folder_with("first");
    let mut watch = TestWatch::start_with(&path, |path| blind(watched(path, Arc::default())));
    watch.sees("first").await;
    fs::write(&path, "second").unwrap();
    watch.sees("second").await;
    watch.stop().await;
}

#[test]
fn only_another_content_is_a_change() {
    let (folder, path) = folder_with("first");
    let mut file = watched(path.clone(), Arc::default());
    assert!(file.look(Cause::Event), "the first look always is");
    write_by_rename(&path, "first");
    assert!(!file.look(Cause::Poll) && !file.look(Cause::Event));
    fs::write(&path, "other").unwrap();
    assert!(file.look(Cause::Poll));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(!file.look(Cause::Event), "a folder has no content to read");
    assert!(!file.is_blind);
    drop(folder);
}

#[test]
fn reading_and_other_files_of_the_folder_are_no_events() {
    let (folder, path) = folder_with("first");
    let root = folder.path().canonicalize().unwrap();
    let Way { folders, relevant, .. } = ways_to(&[root.join("proxy.json")]);
    assert_eq!(folders, BTreeSet::from([root.clone()]));
    let event = |kind, path: &Path| Event::new(kind).add_path(path.to_owned());
    let any = EventKind::Any;
    assert!(is_relevant(&event(any, &path.canonicalize().unwrap()), &relevant));
    assert!(is_relevant(&event(any, &root), &relevant), "the folder itself may be deleted");
    assert!(!is_relevant(&event(any, &root.join("proxy.json.tmp")), &relevant));
    let open = EventKind::Access(AccessKind::Open(AccessMode::Any));
    assert!(!is_relevant(&event(open, &root.join("proxy.json")), &relevant));
}

#[test]
fn while_a_folder_is_missing_its_nearest_parent_is_watched() {
    let (folder, _) = folder_with("");
    let root = folder.path().canonicalize().unwrap();
    let Way { folders, relevant, .. } = ways_to(&[root.join("a/b/proxy.json")]);
    assert_eq!(folders, BTreeSet::from([root.clone()]));
    assert!(relevant.contains(&root.join("a")));
}

#[test]
fn links_in_a_circle_end() {
    let folder = TempDir::new().unwrap();
    symlink("b", folder.path().join("a")).unwrap();
    symlink("a", folder.path().join("b")).unwrap();
    let mut file = watched(folder.path().join("a/proxy.json"), Arc::default());
    assert!(!file.look(Cause::Event));
}

#[test]
fn a_content_that_was_here_before_is_a_change_when_another_was_read_since() {
    let (_folder, path) = folder_with("first");
    let last_read = Arc::new(AtomicU64::new(xxh3_64(b"first")));
    let mut file = watched(path.clone(), Arc::clone(&last_read));
    assert!(!file.look(Cause::Event), "it was read before the watch began");
    // Somebody has read another one in between, and it was taken back before anybody looked.
    last_read.store(xxh3_64(b"second"), Relaxed);
    write_by_rename(&path, "first");
    assert!(file.look(Cause::Event));
    assert!(!file.look(Cause::Event));
}

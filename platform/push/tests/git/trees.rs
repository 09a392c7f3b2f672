//! What a tree may hold.

use berth_push::Limits;

use crate::client::{Client, Said};
use crate::world::{BOTH, Over, World};

/// Pushes a tree that is made of raw `git mktree` lines, ended by NUL.
async fn push_tree(world: &World, client: &Client, lines: &[u8]) -> Said {
    let tree = client.with_input(&["mktree", "-z", "--missing"], lines).await;
    push_tree_id(world, client, &tree).await
}

async fn push_tree_id(world: &World, client: &Client, tree: &str) -> Said {
    let commit = client.now(&["commit-tree", "-m", "crafted", tree]);
    client.push(world, Over::Ssh, &format!("{commit}:refs/heads/main")).await
}

async fn blob(client: &Client, content: &[u8]) -> String {
    client.with_input(&["hash-object", "-w", "--stdin"], content).await
}

/// A tree object of these raw bytes, which git itself would not write.
async fn raw_tree(client: &Client, entries: &[(&str, &[u8], &str)]) -> String {
    let mut bytes = Vec::new();
    for (mode, name, id) in entries {
        bytes.extend_from_slice(mode.as_bytes());
        bytes.push(b' ');
        bytes.extend_from_slice(name);
        bytes.push(0);
        bytes.extend((0..20).map(|n| u8::from_str_radix(&id[2 * n..2 * n + 2], 16).unwrap()));
    }
    client.with_input(&["hash-object", "-t", "tree", "-w", "--literally", "--stdin"], &bytes).await
}

fn refused(world: &World, said: &Said, words: &[&str]) {
    assert!(!said.ok, "{said:?}");
    for word in words {
        assert!(said.err.contains(word), "'{word}' is not in {}", said.err);
    }
    assert!(world.host.pushed().is_empty());
    assert_eq!(world.branch("hello", "main"), None);
    assert!(!said.err.contains('\u{1b}'), "{:?}", said.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_names_are_refused_and_the_path_is_named() {
    let names: [(&[u8], &str); 9] = [
        (b"..", "dir/.."),
        (b".", "dir/."),
        (b".git", "dir/.git"),
        (b".GiT", "dir/.GiT"),
        (b"git~1", "dir/git~1"),
        (b".g\xe2\x80\x8cit", "dir/.g"),
        (b"a\x1b[2J", "dir/a\\u{1b}[2J"),
        (b"\xff\xfe", "dir/\\xff\\xfe"),
        (b".wh.x", "dir/.wh.x"),
    ];
    for (name, shown) in names {
        let world = World::new().await;
        let client = world.client();
        let file = blob(&client, b"x").await;
        let inner = raw_tree(&client, &[("100644", name, &file)]).await;
        let tree = raw_tree(&client, &[("40000", b"dir", &inner)]).await;
        let said = push_tree_id(&world, &client, &tree).await;
        refused(&world, &said, &[shown, "is refused"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_with_a_slash_or_none_never_passes() {
    for name in [&b"../../etc/passwd"[..], b"/etc/passwd", b"a/b", b""] {
        let world = World::new().await;
        let client = world.client();
        let file = blob(&client, b"x").await;
        let tree = raw_tree(&client, &[("100644", name, &file)]).await;
        let said = push_tree_id(&world, &client, &tree).await;
        // libgit2 refuses some of these while it parses the tree.
        refused(&world, &said, &["[remote rejected]"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn links_out_of_the_tree_are_refused_by_name_and_others_are_kept() {
    for (path, target) in [("out", "/etc/passwd"), ("d/up", "../../x"), ("a", "b/../../c")] {
        let world = World::new().await;
        let client = world.client();
        client.write("file", "x");
        let link = client.work.join(path);
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, &link).unwrap();
        client.commit_all("links");
        let said = client.push(&world, Over::Ssh, "main").await;
        refused(&world, &said, &[path, target, "outside of the repository"]);
    }
    let world = World::new().await;
    let client = world.client();
    std::fs::create_dir_all(client.work.join("d/e")).unwrap();
    std::os::unix::fs::symlink("../../missing", client.work.join("d/e/l")).unwrap();
    client.commit_all("links");
    client.pushes(&world, Over::Ssh, "main").await;
    assert_eq!(world.archive(&world.host.pushed()[0])["d/e/l"], "-> ../../missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn lfs_pointers_are_named() {
    for over in BOTH {
        let world = World::new().await;
        let client = world.client();
        client.commit(
            "video/film.mp4",
            "version https://git-lfs.github.com/spec/v1\n\
             oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n\
             size 12345\n",
        );
        let said = client.push(&world, over, "main").await;
        refused(&world, &said, &["video/film.mp4", "Git LFS pointers"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submodule_of_another_repository_is_named_and_one_that_was_pushed_here_is_taken() {
    for over in BOTH {
        let world = World::new().await;
        let client = world.client();
        client.commit("lib.txt", "the library");
        let library = client.head();
        client.now(&["checkout", "--quiet", "--orphan", "app"]);
        client.now(&["rm", "-rfq", "--cached", "."]);
        let lines = format!("160000,{library},vendor/lib");
        client.write("app.txt", "the app");
        client.now(&["add", "app.txt"]);
        client.now(&["update-index", "--add", "--cacheinfo", &lines]);
        // `vendor/lib-x` sorts before the files of `vendor/lib/` and after the entry `lib`.
        client.write("vendor/lib-x", "beside");
        client.now(&["add", "vendor/lib-x"]);
        client.now(&["commit", "--quiet", "--message", "app"]);

        let said = client.push(&world, over, "app:main").await;
        refused(&world, &said, &["vendor/lib", &library[..12], "git rm --cached"]);

        let both = client
            .git(&[
                "push",
                &world.url(over, "hello"),
                &format!("{library}:refs/heads/lib"),
                "app:main",
            ])
            .await;
        assert!(both.ok, "{both:?}");
        let archive = world.archive(&world.host.pushed()[0]);
        assert_eq!(archive["vendor/lib/lib.txt"], "the library");
        assert_eq!(archive["vendor/lib-x"], "beside");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_must_name_a_commit() {
    for over in BOTH {
        let world = World::new().await;
        let client = world.client();
        client.commit("a", "1");
        let tree = client.now(&["rev-parse", "HEAD^{tree}"]);
        let said = client.push(&world, over, &format!("{tree}:refs/heads/main")).await;
        refused(&world, &said, &["a branch must name a commit"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_bound_of_a_tree_is_kept_and_named() {
    let small = Limits {
        files_max: 50,
        file_bytes_max: 5000,
        tree_bytes_max: 20_000,
        depth_max: 5,
        path_bytes_max: 2000,
        ..Limits::default()
    };
    let many: Vec<(String, usize)> = (0..51).map(|n| (format!("f{n}"), 1)).collect();
    let long: Vec<(String, usize)> =
        (0..20).map(|n| (format!("{}{n}", "l".repeat(150)), 1)).collect();
    let cases: [(Vec<(String, usize)>, &str); 5] = [
        (many, "too many files"),
        (vec![("big".into(), 5001)], "the file 'big' has 5001 bytes"),
        ((0..5).map(|n| (format!("f{n}"), 4500)).collect(), "too large"),
        (vec![("1/2/3/4/5/6".into(), 1)], "too deep"),
        (long, "paths of the tree are too long"),
    ];
    for (files, words) in cases {
        let world = World::with(small).await;
        let client = world.client();
        for (path, bytes) in files {
            client.write(&path, &"x".repeat(bytes));
        }
        client.commit_all("too much");
        let said = client.push(&world, Over::Ssh, "main").await;
        refused(&world, &said, &[words, "limit"]);
    }
    let world = World::with(small).await;
    let client = world.client();
    for n in 0..49 {
        client.write(&format!("f{n}"), "x");
    }
    client.write("1/2/3/4/5", &"x".repeat(5000));
    client.commit_all("just enough");
    client.pushes(&world, Over::Ssh, "main").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trees_that_unfold_into_billions_of_entries_are_refused() {
    let world = World::new().await;
    let client = world.client();
    let file = blob(&client, b"x").await;
    let mut tree = raw_tree(&client, &[("100644", b"f", &file)]).await;
    for _ in 0..12 {
        let names: Vec<[u8; 1]> = (b'a'..=b'j').map(|c| [c]).collect();
        let entries: Vec<_> = names.iter().map(|n| ("40000", &n[..], tree.as_str())).collect();
        tree = raw_tree(&client, &entries).await;
    }
    let said = push_tree_id(&world, &client, &tree).await;
    refused(&world, &said, &["too many"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_files_pass_and_a_hundred_thousand_and_one_do_not() {
    let world = World::new().await;
    let client = world.client();
    let file = blob(&client, b"x").await;
    let entries = |count: usize| -> Vec<u8> {
        (0..count).flat_map(|n| format!("100644 blob {file}\tf{n:06}\0").into_bytes()).collect()
    };
    let said = push_tree(&world, &client, &entries(100_001)).await;
    refused(&world, &said, &["too many files", "100000 files"]);
    let said = push_tree(&world, &client, &entries(10_000)).await;
    assert!(said.ok, "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_200_mb_passes() {
    let world = World::new().await;
    let client = world.client();
    let big = std::fs::File::create(client.work.join("big")).unwrap();
    big.set_len(200_000_000).unwrap();
    client.commit_all("big");
    let said = client.push(&world, Over::Http, "main").await;
    assert!(said.ok, "{said:?}");
    let bytes = world.blobs.len(&world.host.pushed()[0].source.archive).unwrap();
    assert!(bytes > 200_000_000, "{bytes}");
    // The file went through this process in pieces.
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak_kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak_kib < 190_000, "{peak_kib} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_larger_than_every_window_passes_both_ways() {
    for over in BOTH {
        let world = World::new().await;
        let client = world.client();
        let mut state = 1_u64;
        let noise: Vec<u8> = (0..10 << 20)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
                (state >> 56) as u8
            })
            .collect();
        std::fs::write(client.work.join("noise"), &noise).unwrap();
        client.commit_all("noise");
        client.pushes(&world, over, "main").await;
        let said = client.git(&["clone", "--quiet", &world.url(over, "hello"), "copy"]).await;
        assert!(said.ok, "{said:?}");
        assert!(std::fs::read(client.work.join("copy/noise")).unwrap() == noise);
    }
}

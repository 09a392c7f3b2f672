#![allow(clippy::unwrap_used, dead_code)]
#[path = "root_stack.rs"]
mod s;
use berth_container::Stack;
#[tokio::test]
async fn zz_build_stack() {
    let platform = s::platform::Platform::new();
    let t = std::time::Instant::now();
    let (mut file, progress) = s::make(&platform, Stack::Debian12Build).await;
    println!("{progress}\n{:?}", t.elapsed());
    let d = s::digest(&mut file);
    println!("{} MiB", d.1 >> 20);
    std::io::Seek::rewind(&mut file).unwrap();
    let t = std::time::Instant::now();
    let request = berth_container::Request::LayerUnpack { diff_id: d.0 };
    platform.call(&request, &[file.try_clone().unwrap().into()]).await.unwrap();
    println!("unpack {:?}", t.elapsed());
    let only = |start: &mut berth_container::Start| { start.layers = vec![d.0]; start.limits.disk_mib = 512; start.limits.memory_mib = 512; };
    let script = "cd /workspace && python3 -m venv v && v/bin/pip --version && gcc --version | head -1 && git --version && echo 'int main(){return 0;}' > a.c && gcc a.c -o a && ./a && python3 -X importtime -c 'import json' 2>&1 | tail -1; python3 -v -c 'import json' 2>&1 | grep -c 'matches'";
    let (exit, text) = platform.script(only, script).await;
    println!("{exit:?} {text}");
    let e = s::entries(&mut file);
    println!("{} entries", e.len());
}

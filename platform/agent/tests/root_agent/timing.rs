use crate::platform::{Platform, app};
use crate::life::get;
#[tokio::test]
async fn timing() {
    let platform = Platform::new();
    for _ in 0..8 {
        let t = std::time::Instant::now();
        let started = platform.instance(app(1), "echo hello > index.html; exec httpd -f -p 5000").await;
        let a = t.elapsed();
        while get(started.address.unwrap()).is_err() { std::thread::sleep(std::time::Duration::from_micros(200)); }
        let b = t.elapsed();
        let t = std::time::Instant::now();
        platform.stop(started.instance, 1000).await.unwrap();
        eprintln!("started {a:?} answered {b:?} stopped {:?}", t.elapsed());
    }
}

//! Several API processes and a Redis: changes come by it, and what it lacks from the store. What becomes of Redis:
//! redis_away.rs.

mod common;

use common::Bench;
use common::redis::{Scene, told};

smartlog_test_services::on_both_stores!(changes_come_by_redis_and_what_it_lacks_from_the_store);

async fn changes_come_by_redis_and_what_it_lacks_from_the_store(bench: Bench) {
    let Some(scene) = Scene::of(bench, None).await else { return };
    let mut connection = scene.connect().await;
    let mut events = scene.listen().await;
    // The first looks of both are over once they have told a change.
    scene.commit(4).await;
    told(&mut events, 4).await;
    let mut by_redis = 0;
    for seq in 5..40 {
        scene.commit(seq).await;
        scene.publish(&mut connection, seq).await;
        by_redis += told(&mut events, seq).await.iter().filter(|kind| *kind == "published").count();
    }
    // Now and then the look at the store that is due once a second comes first.
    assert!(by_redis >= 50, "{by_redis} of 70 came by Redis");
    let metrics = scene.servers[0].get("/metrics").await.text();
    let sum = "smartlog_api_stream_changes_total{source=\"redis\"}";
    assert!(metrics.contains(sum) && !metrics.contains(&format!("{sum} 0\n")), "{metrics}");
    // Redis has 41 and not 40, then what no version of ours would write, then nothing.
    scene.commit(40).await;
    scene.commit(41).await;
    scene.publish(&mut connection, 41).await;
    told(&mut events, 40).await;
    told(&mut events, 41).await;
    scene.commit(42).await;
    scene.publish_nonsense(&mut connection, 42).await;
    assert_eq!(told(&mut events, 42).await, ["updated", "updated"]);
    scene.commit(43).await;
    assert_eq!(told(&mut events, 43).await, ["updated", "updated"]);
    scene.end().await;
}

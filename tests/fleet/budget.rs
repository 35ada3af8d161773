//! The request budget that replicas share.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use wheelport::fleet::{BudgetPermit, Fleet, FleetSettings, QuotaBudget, QuotaName};
use wheelport_runtime::Tasks;

use super::servers::{Server, redis_of};

/// Takes what there is until a moment; returns how much that was.
async fn taken(budget: QuotaBudget, until: Instant) -> u32 {
    let mut taken = 0;
    loop {
        let now = Instant::now();
        if now >= until {
            return taken;
        }
        match budget.try_take(now) {
            BudgetPermit::Taken => taken += 1,
            BudgetPermit::Later(when) => sleep_until(when.min(until)).await,
            BudgetPermit::Away => panic!("Redis is there"),
        }
    }
}

fn budgets(redis: &Server, tasks: &Tasks, number: usize) -> Vec<QuotaBudget> {
    let quota = QuotaName::parse("eu-central-1").expect("a quota");
    let settings = redis_of(redis, FleetSettings::default());
    let of_replica = |_| {
        let fleet = Fleet::default().with_redis(&settings, tasks).expect("usable settings");
        fleet.budget(quota.clone(), 100, 20, tasks).expect("a budget")
    };
    (0..number).map(of_replica).collect()
}

#[tokio::test]
async fn three_replicas_together_get_what_the_budget_allows() {
    let (redis, tasks) = (Server::start("valkey"), Tasks::new());
    let until = Instant::now() + Duration::from_secs(4);
    let taking = budgets(&redis, &tasks, 3).into_iter().map(|budget| taken(budget, until));
    let taken: Vec<u32> = futures_util::future::join_all(taking).await;
    let total: u32 = taken.iter().sum();
    assert!((399..=441).contains(&total), "{taken:?}");
    assert!(taken.iter().all(|taken| *taken > 0), "{taken:?}");
}

#[tokio::test]
async fn throttling_of_one_slows_down_all() {
    let (redis, tasks) = (Server::start("valkey"), Tasks::new());
    let budgets = budgets(&redis, &tasks, 2);
    let warm = Instant::now() + Duration::from_millis(500);
    taken(budgets[0].clone(), warm).await;
    budgets[0].throttled();
    let until = Instant::now() + Duration::from_secs(2);
    let other = taken(budgets[1].clone(), until).await;
    assert!((80..=150).contains(&other), "half of the rate, growing: {other}");
}

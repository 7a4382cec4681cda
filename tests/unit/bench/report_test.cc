// SPDX-License-Identifier: Apache-2.0
#include "bench/report.h"

#include <gmock/gmock.h>

#include <boost/json.hpp>
#include <sstream>

namespace coffer::bench {
namespace {

TEST(BenchReport, TheMedianStandsBetweenTheEnds) {
  const auto odd = spread_of({5, 1, 3});
  EXPECT_EQ(odd.median, 3);
  EXPECT_EQ(odd.min, 1);
  EXPECT_EQ(odd.max, 5);
  EXPECT_EQ(odd.runs, 3U);
  EXPECT_EQ(spread_of({4, 1, 3, 2}).median, 2.5);
  EXPECT_EQ(spread_of({7}).median, 7);
}

TEST(BenchReport, GoalsAreHeldAgainstTheMedian) {
  const Spread spread = spread_of({1, 5, 9});
  EXPECT_TRUE((Figure{"a", "times", spread, std::nullopt}.met()));
  EXPECT_TRUE((Figure{"a", "times", spread, Goal{GoalKind::kAtLeast, 5}}.met()));
  EXPECT_FALSE((Figure{"a", "times", spread, Goal{GoalKind::kAtLeast, 5.1}}.met()));
  EXPECT_TRUE((Figure{"a", "µs", spread, Goal{GoalKind::kAtMost, 5}}.met()));
  EXPECT_FALSE((Figure{"a", "µs", spread, Goal{GoalKind::kAtMost, 4.9}}.met()));
}

TEST(BenchReport, JsonHoldsWhatTheTableShows) {
  const std::vector<Figure> figures{
      {"plain", "MiB/s", spread_of({2, 1, 4}), std::nullopt},
      {"missed", "times", spread_of({2}), Goal{GoalKind::kAtLeast, 3}},
  };
  std::ostringstream json;
  print_json(json, figures);
  EXPECT_EQ(boost::json::parse(json.str()), boost::json::parse(R"([
    {"name": "plain", "value": 2.0, "unit": "MiB/s", "min": 1.0, "max": 4.0, "runs": 3},
    {"name": "missed", "value": 2.0, "unit": "times", "min": 2.0, "max": 2.0, "runs": 1,
     "goal": ">= 3", "met": false}])"));
  std::ostringstream table;
  print_table(table, figures);
  EXPECT_THAT(table.str(), testing::ContainsRegex("plain +2.00 +1.00 +4.00  MiB/s"));
  EXPECT_THAT(table.str(), testing::ContainsRegex("missed +2.00 .*>= 3  MISSED"));
}

}  // namespace
}  // namespace coffer::bench

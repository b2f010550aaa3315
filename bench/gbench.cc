/* SPDX-License-Identifier: MIT */
/*
 * Google Benchmark behind a C interface; gbench.h says what it promises.
 *
 * The library is asked to run one group at a time, with its repetitions in
 * random order. What it reports is collected here: printed as one table a
 * group, and written in the library's own JSON format at the end.
 */
#include "bench/gbench.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <unistd.h>

#include <benchmark/benchmark.h>

#ifdef __clang__
#define COMPILER __VERSION__
#else
#define COMPILER "gcc " __VERSION__
#endif

struct gb_run {
	explicit gb_run(benchmark::State &s) : state(s) {}
	benchmark::State &state;
};

namespace {

struct Result {
	double median, low, high; /* ns an operation; the quarters */
	std::vector<std::pair<std::string, double>> counters;
};

Result Summary(const std::vector<benchmark::BenchmarkReporter::Run> &runs, bool real)
{
	std::vector<double> ns;
	Result result{0, 0, 0, {}};

	for (const auto &run : runs) {
		if (run.run_type != benchmark::BenchmarkReporter::Run::RT_Iteration ||
		    run.error_occurred)
			continue;
		ns.push_back(real ? run.GetAdjustedRealTime() : run.GetAdjustedCPUTime());
	}
	if (ns.empty())
		return result;
	std::sort(ns.begin(), ns.end());
	result.median = ns[ns.size() / 2];
	result.low = ns[ns.size() / 4];
	result.high = ns[ns.size() * 3 / 4];
	for (const auto &counter : runs[0].counters) {
		std::vector<double> values;

		for (const auto &run : runs) {
			auto found = run.counters.find(counter.first);

			if (found != run.counters.end())
				values.push_back(found->second.value);
		}
		std::sort(values.begin(), values.end());
		result.counters.emplace_back(counter.first, values[values.size() / 2]);
	}
	return result;
}

/* Takes what the library reports; passes it on as JSON. */
class Collector : public benchmark::BenchmarkReporter {
public:
	bool ReportContext(const Context &context) override
	{
		if (json_file.is_open() && !began)
			json.ReportContext(context);
		began = true;
		return true;
	}

	void ReportRuns(const std::vector<Run> &report) override
	{
		std::vector<Run> runs;

		for (Run run : report) {
			if (run.run_type != Run::RT_Iteration)
				continue;
			/* The member's flags say these already. */
			run.run_name.time_type.clear();
			run.run_name.threads.clear();
			run.run_name.iterations.clear();
			run.run_name.min_time.clear();
			run.run_name.repetitions.clear();
			failed += run.error_occurred;
			if (run.error_occurred)
				std::fprintf(stderr, "%s: %s\n", run.benchmark_name().c_str(),
				             run.error_message.c_str());
			runs.push_back(run);
		}
		latest.push_back(runs);
	}

	/* The library reports in the order of completion; this is in that of the members. */
	void Write(const std::string &name, const std::string &label)
	{
		for (auto &runs : latest) {
			if (runs.empty() || runs[0].run_name.function_name != name)
				continue;
			for (Run &run : runs)
				run.report_label = label;
			if (json_file.is_open())
				json.ReportRuns(runs);
		}
	}

	bool Open(const char *path)
	{
		json_file.open(path);
		json.SetOutputStream(&json_file);
		json.SetErrorStream(&std::cerr);
		return json_file.is_open();
	}

	bool Close()
	{
		if (!json_file.is_open())
			return true;
		if (began)
			json.Finalize();
		json_file.close();
		return !json_file.fail();
	}

	std::vector<std::vector<Run>> latest; /* of the group at hand, a vector a member */
	int failed = 0;

private:
	benchmark::JSONReporter json;
	std::ofstream json_file;
	bool began = false;
};

void PrintGroup(const gb_group &group, const std::vector<Result> &results)
{
	const Result *base = nullptr;

	for (uint32_t i = 0; i < group.count && !base; i++) {
		if (group.members[i].role == GB_LIMIT && results[i].median > 0)
			base = &results[i];
	}
	for (uint32_t i = 0; i < group.count && !base; i++) {
		if (results[i].median > 0)
			base = &results[i];
	}
	if (!base)
		return;
	std::printf("%s\n", group.name);
	for (uint32_t i = 0; i < group.count; i++) {
		const Result &r = results[i];

		if (r.median <= 0)
			continue;
		std::printf("  %-28s %12.2f ns  %10.2f .. %-10.2f", group.members[i].name,
		            r.median, r.low, r.high);
		if (group.count > 1)
			std::printf(" %8.2fx", r.median / base->median);
		for (const auto &counter : r.counters)
			std::printf("  %s %.4g", counter.first.c_str(), counter.second);
		std::printf("\n");
	}
	std::fflush(stdout);
}

} // namespace

struct gb_suite {
	gb_options options;
	std::vector<gb_group> groups;
};

static std::string Name(const gb_group &group, uint32_t member)
{
	return std::string(group.name) + "/" + group.members[member].name;
}

static bool Wanted(const gb_options &options, const std::string &name)
{
	bool wanted = options.only_count == 0;

	for (unsigned i = 0; i < options.only_count; i++)
		wanted |= !name.compare(0, std::strlen(options.only[i]), options.only[i]);
	return wanted;
}

/* How far the suite is, in one line on a terminal that is written over. */
class Progress {
public:
	explicit Progress(size_t group_total, size_t member_total)
		: groups(group_total), members(member_total)
	{
	}

	void Begin(const gb_group &group)
	{
		if (!shown)
			return;
		std::fprintf(stderr, "\r\033[K[%zu of %zu] %s", ++at, groups, group.name);
		if (done) {
			double spent = std::chrono::duration<double>(Clock::now() - start).count();
			double left = spent / (double)done * (double)(members - done);

			std::fprintf(stderr, left < 90 ? ", about %.0f s left" : ", about %.0f min left",
			             left < 90 ? left : left / 60);
		}
		std::fflush(stderr);
		done += group.count;
	}

	/* Makes room for what the group prints. */
	void Clear() const
	{
		if (shown)
			std::fprintf(stderr, "\r\033[K");
	}

private:
	using Clock = std::chrono::steady_clock;

	bool shown = isatty(STDERR_FILENO);
	size_t groups, members, at = 0, done = 0;
	Clock::time_point start = Clock::now();
};

struct gb_suite *gb_create(const struct gb_options *options)
{
	return new gb_suite{*options, {}};
}

bool gb_quick(const struct gb_suite *suite)
{
	return suite->options.quick;
}

void gb_add(struct gb_suite *suite, const struct gb_group *group)
{
	if (suite->options.by_flavour && !group->by_flavour)
		return;
	for (uint32_t i = 0; i < group->count; i++) {
		if (Wanted(suite->options, Name(*group, i))) {
			suite->groups.push_back(*group);
			return;
		}
	}
}

unsigned gb_groups(const struct gb_suite *suite)
{
	return (unsigned)suite->groups.size();
}

void gb_list(const struct gb_suite *suite)
{
	for (const gb_group &group : suite->groups) {
		for (uint32_t i = 0; i < group.count; i++) {
			std::string name = Name(group, i);

			if (Wanted(suite->options, name))
				std::printf("%s\n", name.c_str());
		}
	}
}

static unsigned Repetitions(const gb_options &options)
{
	return options.repetitions ? options.repetitions : options.quick ? 9 : 21;
}

static double Seconds(const gb_options &options)
{
	return options.seconds > 0 ? options.seconds : options.quick ? 0.01 : 0.05;
}

static void RunGroup(const gb_options &options, const gb_group &group, Collector *collector,
                     Progress *progress)
{
	std::vector<Result> results;
	void *context;

	progress->Begin(group);
	context = group.setup ? group.setup(group.arg) : nullptr;
	benchmark::ClearRegisteredBenchmarks();
	for (uint32_t i = 0; i < group.count; i++) {
		const gb_member *member = &group.members[i];
		std::string name = Name(group, i);

		if (!Wanted(options, name))
			continue;

		auto *bench = benchmark::RegisterBenchmark(
			name.c_str(), [member, context](benchmark::State &state) {
				gb_run run(state);

				member->run(&run, context, member->arg);
			});

		if (group.repetitions)
			bench->Repetitions((int)std::min(group.repetitions, Repetitions(options)));
		if (member->iterations)
			bench->Iterations((int)member->iterations);
		else if (member->flags & GB_MANUAL) /* what is not timed takes long as well */
			bench->MinTime(Seconds(options) / 8);
		if (member->threads > 1)
			bench->Threads((int)member->threads);
		if (member->flags & GB_REAL_TIME)
			bench->UseRealTime();
		if (member->flags & GB_MANUAL)
			bench->UseManualTime();
	}
	collector->latest.clear();
	benchmark::RunSpecifiedBenchmarks(collector);
	for (uint32_t i = 0; i < group.count; i++) {
		std::string name = Name(group, i);
		Result result{0, 0, 0, {}};

		/* Which of the two times counts. */
		collector->Write(name, group.members[i].flags ? "real_time" : "cpu_time");
		for (const auto &runs : collector->latest) {
			if (!runs.empty() && runs[0].run_name.function_name == name)
				result = Summary(runs, group.members[i].flags);
		}
		results.push_back(result);
	}
	progress->Clear();
	PrintGroup(group, results);
	if (group.teardown)
		group.teardown(context);
}

int gb_finish(struct gb_suite *suite)
{
	const gb_options &options = suite->options;
	std::string repeat = "--benchmark_repetitions=" + std::to_string(Repetitions(options));
	std::string time = "--benchmark_min_time=" + std::to_string(Seconds(options));
	const char *fixed[] = {"bench", repeat.c_str(), time.c_str(),
	                       "--benchmark_enable_random_interleaving=true", nullptr};
	std::vector<char *> argv;
	Collector collector;
	size_t members = 0;
	int argc = 4;

	if (options.json && !collector.Open(options.json))
		return -1;
	for (const gb_group &group : suite->groups)
		members += group.count;

	Progress progress(suite->groups.size(), members);

	for (const char *arg : fixed)
		argv.push_back(const_cast<char *>(arg));
	benchmark::Initialize(&argc, argv.data());
	benchmark::AddCustomContext("rcu", options.flavour);
	benchmark::AddCustomContext("quick", options.quick ? "yes" : "no");
	benchmark::AddCustomContext("repetitions", std::to_string(Repetitions(options)));
	benchmark::AddCustomContext("compiler", COMPILER);
	for (const gb_group &group : suite->groups)
		RunGroup(options, group, &collector, &progress);
	benchmark::Shutdown();
	return collector.Close() ? collector.failed : -1;
}

void gb_destroy(struct gb_suite *suite)
{
	delete suite;
}

bool gb_next(struct gb_run *run, uint64_t n)
{
	return run->state.KeepRunningBatch((benchmark::IterationCount)n);
}

void gb_pause(struct gb_run *run)
{
	run->state.PauseTiming();
}

void gb_resume(struct gb_run *run)
{
	run->state.ResumeTiming();
}

void gb_manual(struct gb_run *run, uint64_t ns)
{
	run->state.SetIterationTime((double)ns * 1e-9);
}

unsigned gb_thread(const struct gb_run *run)
{
	return (unsigned)run->state.thread_index();
}

void gb_counter(struct gb_run *run, const char *name, double value)
{
	run->state.counters[name] = value;
}

void gb_fail(struct gb_run *run, const char *why)
{
	run->state.SkipWithError(why);
}

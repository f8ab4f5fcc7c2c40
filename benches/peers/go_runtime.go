// The works of benches/compare on goroutines. Usage: go_runtime WORK COUNT THREADS SECONDS
//
// GOMAXPROCS is THREADS; the garbage collector is on, as users have it. Where the others have a
// semaphore, goroutines have a channel with room for one.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	turnsAtOnce = 1000
	batch       = 1000
	room        = 1024
	usedBytes   = 40 << 10
	firstDue    = 1500 * time.Millisecond
	spread      = 3 * time.Second
)

func cannot(why string) {
	fmt.Println("cannot", why)
	os.Exit(0)
}

func cpu() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		cannot(err.Error())
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func report(operations int, elapsed, cpu time.Duration) {
	fmt.Println("operations", operations)
	fmt.Println("elapsed_ns", elapsed.Nanoseconds())
	fmt.Println("cpu_ns", cpu.Nanoseconds())
}

// Repeats passes, and measures them without the first, which warms up.
func measure(pass func(int), count int, limit time.Duration) {
	if count >= 10 {
		pass(count / 10)
	}
	began, before := time.Now(), cpu()
	operations := 0
	for operations == 0 || time.Since(began) < limit {
		pass(count)
		operations += count
	}
	report(operations, time.Since(began), cpu()-before)
}

var input = bufio.NewReader(os.Stdin)

// Says how far it is, and waits until whoever measures has had a look.
func stage(name string) {
	fmt.Println("stage", name)
	if _, err := input.ReadString('\n'); err != nil {
		cannot("nobody looks")
	}
}

func check(good bool) {
	if !good {
		panic("a wrong result")
	}
}

func sumBelow(count int) int { return count * (count - 1) / 2 }

func spawn(i int) chan int {
	result := make(chan int, 1)
	go func() { result <- i }()
	return result
}

func oneByOne(count int) {
	sum := 0
	for i := 0; i < count; i++ {
		sum += <-spawn(i)
	}
	check(sum == sumBelow(count))
}

func inBatches(count int) {
	for i := 0; i < count/batch; i++ {
		allAtOnce(batch)
	}
}

func allAtOnce(count int) {
	results := make([]chan int, count)
	for i := range results {
		results[i] = spawn(i)
	}
	sum := 0
	for _, result := range results {
		sum += <-result
	}
	check(sum == sumBelow(count))
}

// Goroutines that wait until they are told to act, and again, when all have acted, to end.
type crowd struct {
	first, second      chan struct{}
	arrived, done, all sync.WaitGroup
}

// Starts so many, and returns when all wait. Each is given its number to act.
func gather(count int, act func(i int)) *crowd {
	c := &crowd{first: make(chan struct{}), second: make(chan struct{})}
	c.arrived.Add(count)
	c.done.Add(count)
	c.all.Add(count)
	for i := 0; i < count; i++ {
		go func(i int) {
			defer c.all.Done()
			c.arrived.Done()
			<-c.first
			act(i)
			c.done.Done()
			<-c.second
		}(i)
	}
	c.arrived.Wait()
	return c
}

// Returns when all have acted.
func (c *crowd) act() {
	close(c.first)
	c.done.Wait()
}

func (c *crowd) end() {
	close(c.second)
	c.all.Wait()
}

func turns(count int, limit time.Duration) {
	var elapsed, used time.Duration
	passes := 0
	for ; elapsed < limit; passes++ {
		each := count / turnsAtOnce
		if passes == 0 {
			// The first one warms up.
			each /= 10
		}
		var sum int64
		crowd := gather(turnsAtOnce, func(int) {
			switches := 0
			for switches < each {
				runtime.Gosched()
				switches++
			}
			atomic.AddInt64(&sum, int64(switches))
		})
		began, before := time.Now(), cpu()
		crowd.act()
		if passes > 0 {
			elapsed += time.Since(began)
			used += cpu() - before
		}
		crowd.end()
		check(int(sum) == each*turnsAtOnce)
	}
	report((passes-1)*count, elapsed, used)
}

func pingPong(count int) {
	there, back := make(chan struct{}, 1), make(chan struct{}, 1)
	go func() {
		for i := 0; i < count; i++ {
			<-there
			back <- struct{}{}
		}
	}()
	for i := 0; i < count; i++ {
		there <- struct{}{}
		<-back
	}
}

func queue(count int) {
	items, result := make(chan int, room), make(chan int)
	go func() {
		sum := 0
		for i := 0; i < count; i++ {
			sum += <-items
		}
		result <- sum
	}()
	for i := 0; i < count; i++ {
		items <- i
	}
	check(<-result == sumBelow(count))
}

func roundTrips(count int) {
	there, back := make(chan int, room), make(chan int, room)
	go func() {
		for i := 0; i < count; i++ {
			back <- <-there
		}
	}()
	for i := 0; i < count; i++ {
		there <- i
		check(<-back == i)
	}
}

func timers(count int) {
	var began time.Time
	late := make([]time.Duration, count)
	crowd := gather(count, func(i int) {
		part := float64(uint32(i)*2654435761) / (1<<32 - 1)
		due := began.Add(firstDue + time.Duration(float64(spread)*part))
		time.Sleep(time.Until(due))
		if by := time.Since(due); by > 0 {
			late[i] = by
		}
	})
	began = time.Now()
	before := cpu()
	crowd.act()
	elapsed, used := time.Since(began), cpu()-before
	crowd.end()
	sort.Slice(late, func(a, b int) bool { return late[a] < late[b] })
	report(count, elapsed, used)
	fmt.Println("late_p50_ns", late[(count-1)/2].Nanoseconds())
	fmt.Println("late_p99_ns", late[(count-1)*99/100].Nanoseconds())
	fmt.Println("late_max_ns", late[count-1].Nanoseconds())
}

//go:noinline
func useStack(seed byte) int {
	var area [usedBytes]byte
	for i := range area {
		area[i] = seed
	}
	sum := 0
	for _, b := range area {
		sum += int(b)
	}
	return sum
}

func parked(count int) {
	check(useStack(1) == usedBytes)
	stage("ready")
	var bytes int64
	crowd := gather(count, func(int) { atomic.AddInt64(&bytes, int64(useStack(1))) })
	stage("parked")
	crowd.act()
	stage("used")
	crowd.end()
	check(int(bytes) == count*usedBytes)
	fmt.Println("operations", count)
}

func main() {
	if len(os.Args) != 5 {
		cannot("WORK COUNT THREADS SECONDS are wanted")
	}
	work := os.Args[1]
	count, err := strconv.Atoi(os.Args[2])
	threads, err2 := strconv.Atoi(os.Args[3])
	seconds, err3 := strconv.ParseFloat(os.Args[4], 64)
	if err != nil || err2 != nil || err3 != nil {
		cannot("COUNT, THREADS and SECONDS are numbers")
	}
	if work == "version" {
		fmt.Println("version", runtime.Version())
		return
	}
	runtime.GOMAXPROCS(threads)
	passes := map[string]func(int){
		"spawn":     oneByOne,
		"spawn1k":   inBatches,
		"spawnall":  allAtOnce,
		"pingpong":  pingPong,
		"queue":     queue,
		"queue2":    queue,
		"roundtrip": roundTrips,
	}
	limit := time.Duration(seconds * float64(time.Second))
	switch {
	case work == "yield":
		turns(count, limit)
	case passes[work] != nil:
		measure(passes[work], count, limit)
	case work == "timers":
		timers(count)
	case work == "parked":
		parked(count)
	default:
		cannot("unknown work")
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"
)

// contestant is one of those whose times are compared where several goroutines work at once.
type contestant struct {
	name string
	// once is timed. The worker is the number of the goroutine, n one that doesn't come again.
	once func(worker, n int) error
}

// contest is a comparison: in each round, each contestant's workers do their share at the same time, one contestant after
// the other.
type contest struct {
	name, what  string
	contestants []contestant
	concurrency int
	share       int // what each worker does in a round
	rounds      int
}

// run does the rounds. Who begins changes from round to round. Before them is one that doesn't count.
func (c contest) run(ctx context.Context) (Result, error) {
	result := Result{Workload: c.name, What: c.what, Concurrency: c.concurrency}
	for _, p := range c.contestants {
		result.Times = append(result.Times, Times{Runtime: p.name})
	}
	next := 0
	for round := range 1 + c.rounds {
		for turn := range c.contestants {
			i := (round + turn) % len(c.contestants)
			runtime.GC() // not by itself in the meantime
			began := time.Now()
			single, err := c.turn(ctx, c.contestants[i].once, next)
			whole := time.Since(began)
			if err != nil {
				return result, err
			}
			next += c.concurrency * c.share
			if round > 0 {
				t := &result.Times[i]
				for _, took := range single {
					t.Milliseconds = append(t.Milliseconds, milliseconds(took))
				}
				t.rounds = append(t.rounds, milliseconds(whole)/float64(len(single)))
			}
		}
	}
	result.summarise()
	return result, nil
}

// turn is one contestant's part of a round.
func (c contest) turn(ctx context.Context, once func(worker, n int) error, next int) ([]time.Duration, error) {
	times, failures := make([]time.Duration, c.concurrency*c.share), make([]error, c.concurrency)
	var all sync.WaitGroup
	for w := range c.concurrency {
		all.Go(func() {
			for i := range c.share {
				if ctx.Err() != nil {
					failures[w] = errors.New("interrupted")
					return
				}
				began := time.Now()
				if failures[w] = once(w, next+w*c.share+i); failures[w] != nil {
					return
				}
				times[w*c.share+i] = time.Since(began)
			}
		})
	}
	all.Wait()
	return times, errors.Join(failures...)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// atOnce does something for each number below n, some at a time. It returns the first error of those that there are.
func atOnce(n int, do func(i int) error) error {
	const some = 8
	turns := make(chan struct{}, some)
	failures := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		turns <- struct{}{}
		all.Go(func() {
			failures[i] = do(i)
			<-turns
		})
	}
	all.Wait()
	for _, err := range failures {
		if err != nil {
			return err
		}
	}
	return nil
}

// numbered is a name with a number.
func numbered(name string, n int) string { return fmt.Sprintf("%s-%d", name, n) }

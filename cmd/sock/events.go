package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sock-runtime/sock/libsock"
)

var eventsCommand = &cli.Command{
	Name:      "events",
	Usage:     "display events of a container: lack of memory, and its use of resources",
	ArgsUsage: "<container-id>",
	Description: `Prints a JSON object a line: one of type "oom" whenever the kernel killed for want
of memory, and every now and then one of type "stats" with the counters of the
cgroup. It ends with the container.`,
	Flags: []cli.Flag{
		&cli.DurationFlag{Name: "interval", Value: 5 * time.Second, Usage: "`TIME` between two stats"},
		&cli.BoolFlag{Name: "stats", Usage: "print stats once and exit", DisableDefaultText: true},
	},
	Action: events,
}

// event is a line of output.
type event struct {
	Type string `json:"type"`
	ID   string `json:"id"`
	Data any    `json:"data,omitempty"`
}

func events(ctx *cli.Context) error {
	if err := requireArgs(ctx, 1, 1); err != nil {
		return err
	}
	c, err := loadContainer(ctx)
	if err != nil {
		return err
	}
	interval := ctx.Duration("interval")
	if interval <= 0 {
		return errors.New("duration interval must be greater than 0")
	}
	status, err := c.Status()
	if err != nil {
		return err
	}
	if status.Status == "stopped" {
		return fmt.Errorf("container with id %s is not running", status.ID)
	}
	out := json.NewEncoder(ctx.App.Writer)
	if ctx.Bool("stats") {
		return writeStats(out, c, status.ID)
	}
	oom, err := c.NotifyOOM(ctx.Context)
	if err != nil {
		return err
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case _, ok := <-oom:
			if !ok { // the cgroup is gone
				return nil
			}
			if err := out.Encode(event{Type: "oom", ID: status.ID}); err != nil {
				return err
			}
		case <-ticker.C:
			// The container may just be ending: the channel will tell.
			if err := writeStats(out, c, status.ID); err != nil {
				slog.New(logs).Error(err.Error())
			}
		}
	}
}

func writeStats(out *json.Encoder, c *libsock.Container, id string) error {
	stats, err := c.Stats()
	if err != nil {
		return err
	}
	return out.Encode(event{Type: "stats", ID: id, Data: stats})
}

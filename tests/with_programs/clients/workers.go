// Workers with Go's net/http; see README.md.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

var (
	mutex  sync.Mutex
	sent   int
	failed int
	errors = []string{}
)

func beat(client *http.Client, url string) error {
	answer, err := client.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", answer.Status)
	}
	return nil
}

func count(err error) {
	mutex.Lock()
	defer mutex.Unlock()
	sent++
	if err != nil {
		failed++
		if len(errors) < 5 {
			errors = append(errors, err.Error())
		}
	}
}

func number(at int) int {
	number, err := strconv.Atoi(os.Args[at])
	if err != nil {
		panic(err)
	}
	return number
}

func main() {
	workers, seconds, interval := number(4), number(5), time.Duration(number(6))*time.Second
	end := time.Now().Add(time.Duration(seconds) * time.Second)
	var all sync.WaitGroup
	for n := 0; n < workers; n++ {
		// A transport of its own, as each worker is a process of its own in life.
		client := &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}
		url := fmt.Sprintf("http://%s/worker-keepalive.do?group=%s&server=%s.%d.%d:80",
			os.Args[1], os.Args[2], os.Args[3], n/250, n%250+1)
		next := time.Now().Add(interval * time.Duration(n) / time.Duration(workers))
		all.Add(1)
		go func() {
			defer all.Done()
			for ; next.Before(end); next = next.Add(interval) {
				time.Sleep(time.Until(next))
				count(beat(client, url))
			}
		}()
	}
	all.Wait()
	json.NewEncoder(os.Stdout).Encode(map[string]any{"sent": sent, "failed": failed, "errors": errors})
}

// Workers with Java's java.net.http.HttpClient; see README.md.

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;

public class Workers {
    static final ScheduledExecutorService CLOCK = Executors.newScheduledThreadPool(2);
    static long sent, failed;
    static final List<String> ERRORS = new ArrayList<>();

    static synchronized void count(HttpResponse<String> answer, Throwable error) {
        sent++;
        if (error != null || answer.statusCode() != 200) {
            failed++;
            if (ERRORS.size() < 5) {
                String text = error != null ? error.toString() : answer.statusCode() + " " + answer.body();
                ERRORS.add('"' + text.replaceAll("[\"\\\\\\p{Cntrl}]", " ") + '"');
            }
        }
    }

    static void beat(HttpClient client, HttpRequest request, long end, long interval, CountDownLatch done) {
        long started = System.nanoTime();
        if (started >= end) {
            done.countDown();
            return;
        }
        client.sendAsync(request, HttpResponse.BodyHandlers.ofString()).whenComplete((answer, error) -> {
            count(answer, error);
            long pause = Math.max(0, started + interval - System.nanoTime());
            CLOCK.schedule(() -> beat(client, request, end, interval, done), pause, TimeUnit.NANOSECONDS);
        });
    }

    public static void main(String[] args) throws Exception {
        int workers = Integer.parseInt(args[3]);
        long interval = TimeUnit.SECONDS.toNanos(Long.parseLong(args[5]));
        List<HttpClient> clients = new ArrayList<>();
        for (int n = 0; n < workers; n++) {
            // A client of its own, as each worker is a process of its own in life.
            clients.add(HttpClient.newHttpClient());
        }
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(Long.parseLong(args[4]));
        CountDownLatch done = new CountDownLatch(workers);
        for (int n = 0; n < workers; n++) {
            HttpClient client = clients.get(n);
            String url = String.format("http://%s/worker-keepalive.do?group=%s&server=%s.%d.%d:80",
                args[0], args[1], args[2], n / 250, n % 250 + 1);
            HttpRequest request = HttpRequest.newBuilder(URI.create(url)).build();
            CLOCK.schedule(() -> beat(client, request, end, interval, done), interval * n / workers, TimeUnit.NANOSECONDS);
        }
        done.await();
        System.out.printf("{\"sent\": %d, \"failed\": %d, \"errors\": %s}%n", sent, failed, ERRORS);
        System.exit(0);
    }
}
